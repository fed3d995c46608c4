"""How long the pipeline graph takes at 10,000 deployments, and a swap on a real server.

`python -m benchmarks.graph --json` prints one object with the figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from prefect_intelligent.domain import Estimate, Prices, RelativeDeadline, Terms
from prefect_intelligent.pipelines.apply_graph import AutomationPlan, apply_automations, plan_automations
from prefect_intelligent.pipelines.conflicts import find_conflicts
from prefect_intelligent.pipelines.critical_path import critical_path
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory, PoolFacts, Schedule
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, build_graph
from prefect_intelligent.pipelines.project_file import Project
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.survey import Overrides, Survey, build_model
from prefect_intelligent.pipelines.version import DeploymentVersion, SourceCode, choose_version, pull_inputs
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.pipelines import FakePipelineServer

POOLS = 20


def make_nodes(deployments: int, edges: int, rng: np.random.Generator) -> tuple[list[Edge], dict[str, DeploymentNode]]:
    """A layered random project: every deployment writes one dataset and reads some of lower-numbered ones."""
    names = [f"flow_{i:05d}/prod" for i in range(deployments)]
    declared = (EdgeEvidence("declared", "flow.py:1"),)
    found = [Edge(name, f"data_{i:05d}", "writes", declared) for i, name in enumerate(names)]
    seen: set[tuple[int, int]] = set()
    while len(found) < edges:
        reader = int(rng.integers(1, deployments))
        source = int(rng.integers(max(0, reader - 500), reader))
        if (source, reader) not in seen:
            seen.add((source, reader))
            found.append(Edge(f"data_{source:05d}", names[reader], "reads", declared))
    crons = [f"{minute} {hour} * * *" for minute in range(0, 60, 5) for hour in range(24)]
    nodes = {}
    for index, name in enumerate(names):
        p50_s = float(rng.lognormal(4.0, 1.0))
        nodes[name] = DeploymentNode(
            name=name,
            pool=f"pool-{index % POOLS}",
            queue="default",
            schedules=(Schedule(cron=crons[int(rng.integers(len(crons)))]),) if index % 3 == 0 else (),
            estimate=Estimate(p50_s=p50_s, p90_s=2 * p50_s),
            terms=Terms(deadline=RelativeDeadline(within_s=3600), late_usd_per_hour=float(rng.integers(1, 500))),
            limit=4 if index % 7 == 0 else None,
            schema={"properties": {"batch": {"type": "string"}}, "required": []},
            parameters={"batch": "x"},
        )
    return found, nodes


def time_build_check(deployments: int = 10_000, edges: int = 50_000, repeats: int = 3) -> tuple[float, int]:
    """Best of `repeats`: seconds to build the graph, apply all rules and find the critical path; and findings."""
    found, nodes = make_nodes(deployments, edges, np.random.default_rng(7))
    pools = {f"pool-{i}": PoolFacts(name=f"pool-{i}", limit=100, priorities={"default": 1}) for i in range(POOLS)}
    best, findings = float("inf"), 0
    for repeat in range(repeats):
        inventory = Inventory(nodes=nodes, pools=pools, at_s=1_700_000_000.0 + repeat)
        started = time.perf_counter()
        graph = build_graph(found, nodes)
        findings = len(find_conflicts(graph, inventory))
        critical_path(graph, nodes)
        best = min(best, time.perf_counter() - started)
    return best, findings


def time_noop_apply(deployments: int = 500, repeats: int = 3) -> float:
    """Best of `repeats`: seconds to find that nothing has to be written, with a server that answers at once."""
    found, nodes = make_nodes(deployments, 3 * deployments, np.random.default_rng(8))
    terms: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in nodes}
    for edge in found:
        side = 1 if edge.kind == "writes" else 0
        terms[edge.deployment][side].append(edge.target if side else edge.source)
    nodes = {
        name: replace(node, terms=Terms(inputs=tuple(terms[name][0]), outputs=tuple(terms[name][1])))
        for name, node in nodes.items()
    }
    server = FakePipelineServer()
    transactions = Transactions(server, InMemoryHistory(), ManualClock())

    def look() -> AutomationPlan:
        model = build_model(Survey(nodes=nodes), Project(), Overrides(), Prices(), 1_700_000_000.0)
        return plan_automations(server, model, 1_700_000_000.0)

    apply_automations(transactions, look())
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        changes = look().changes
        best = min(best, time.perf_counter() - started)
        assert changes == ()
    return best


def time_swap(repeats: int = 10) -> tuple[float, float]:
    """Medians on a real Prefect server: seconds from the call until a new run would execute the other version.

    The clock stops when a run created after the change reads a deployment that chooses the right version for it.

    Returns:
        For a swap and for a rollback.
    """
    from prefect_intelligent.history.adapters.sql_records import open_history
    from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
    from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.clock import SystemClock
    from tests.real_prefect import RealServer

    with tempfile.TemporaryDirectory(prefix="benchmark-graph-") as folder:
        home = Path(folder) / "server"
        home.mkdir()
        prefect = RealServer(home).start()
        try:
            api = prefect.api()
            api.deployment(api.pool(), flow="swap", name="p", entrypoint="flows.py:f")
            server = PrefectPipelineServer(PrefectApi(prefect.api_url, timeout_s=20))
            history = open_history(f"sqlite:///{folder}/history.db")
            versions = VersionStore(history, FsspecBlobStore(f"{folder}/versions"), SystemClock())
            rollout = Rollout(Transactions(server, history, SystemClock()), versions, f"{folder}/versions")
            baseline = rollout.keep_current("swap/p", "benchmark")
            assert baseline is not None
            spec = {**baseline.spec, "pull_steps": None, "version": None}
            swaps, rollbacks = [], []
            for index in range(repeats):
                code = SourceCode(blob=versions.blobs.put(str(index).encode()))
                version = versions.keep(DeploymentVersion(deployment="swap/p", spec=spec, code=code))
                for times in (swaps, rollbacks):
                    started = time.perf_counter()
                    if times is swaps:
                        rollout.swap(version)
                        wanted = version.id
                    else:
                        wanted = rollout.roll_back("swap/p").id
                    server.start_run("swap/p", {}, key=f"{index} {len(times)} {wanted}")
                    held = server.read("deployment:swap/p") or {}
                    inputs = pull_inputs(held)
                    seen = None if inputs is None else choose_version(inputs, label=None, pinned=None)
                    times.append(time.perf_counter() - started)
                    assert seen == wanted or (inputs is None and wanted == baseline.id)
            return float(np.median(swaps)), float(np.median(rollbacks))
        finally:
            prefect.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    seconds, findings = time_build_check()
    noop_s = time_noop_apply()
    swap_s, rollback_s = time_swap()
    figures = {
        "build_check_10k_s": round(seconds, 3),
        "noop_apply_500_s": round(noop_s, 3),
        "swap_visible_s": round(swap_s, 3),
        "rollback_visible_s": round(rollback_s, 3),
    }
    context = {"deployments": 10_000, "edges": 50_000, "findings": findings, "python": platform.python_version()}
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()

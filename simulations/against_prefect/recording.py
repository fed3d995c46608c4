"""A day on a real Prefect server with real worker processes."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.spec import DeploymentSpec, WorkerSpec
from simulations.against_prefect.days import DayPlan

if TYPE_CHECKING:
    from tests.real_prefect import Api, Process, RealServer

StartWorker = Callable[["RealServer", str, WorkerSpec, Path], "Process"]

POLL_S: Final = 1.0
_CREATING_S: Final = 0.2
"""Least seconds allowed to create one run; the API needs a fifth of that on an idle machine."""
_TIMEOUT_S: Final = 900.0
_FLOW: Final = """
import time

from prefect import flow


@flow
def rest(seconds: float) -> None:
    time.sleep(seconds)
"""
_WORKER_LABEL: Final = "prefect.worker.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDay:
    """What a real server and its workers did; arrays of shape (runs,), instants in seconds from the beginning.

    Attributes:
        plan: What was asked of them.
        scheduled_s: When each run should have started.
        offered_s: When a worker first tried to start it; `nan` if none did before it was cancelled.
        claimed_s: When it took its slot (PENDING); `nan` if it was cancelled instead.
        ended_s: When it gave the slot back, or was cancelled.
        poll_s: Mean seconds between two polls of a worker; None if it did not tell.
        answer_s: Mean seconds from a poll to the claims that came of it.
    """

    plan: DayPlan
    scheduled_s: Array
    offered_s: Array
    claimed_s: Array
    ended_s: Array
    poll_s: float | None = None
    answer_s: float = 0.0


def record_day(plan: DayPlan, start_worker: StartWorker | None = None) -> RecordedDay:
    """Let a real server and real workers play a day; takes as long as the day, and their start and stop.

    Args:
        plan: The day.
        start_worker: Starts a worker on a server's pool that polls every `POLL_S`; the worker that holds runs if None.
    """
    from tests import real_prefect

    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-") as text, ExitStack() as stack:
        folder = Path(text)
        (folder / "rest.py").write_text(_FLOW, encoding="utf-8")
        server = stack.enter_context(real_prefect.open_server(folder / "server", _server_settings(plan)))
        api = server.api()
        began_s = time.monotonic()
        pool, ids = _build(api, plan, folder)
        creating_s = max(_CREATING_S, 3.0 * (time.monotonic() - began_s) / (1 + len(plan.queues) + len(ids)))
        reports = [folder / f"{worker.name}.json" for worker in plan.workers]
        with ExitStack() as workers:
            for worker, report in zip(plan.workers, reports, strict=True):
                workers.callback((start_worker or start_holding_worker)(server, pool, worker, report).stop)
            _wait_for_workers(api, pool, len(plan.workers))
            begin = time.time() + 2.0 + creating_s * len(plan.deployment)
            roots = [_create(api, plan, int(run), ids, begin) for run in np.flatnonzero(~plan.called)]
            if time.time() > begin:
                raise InvalidInputError(
                    "server", server.api_url, "is too slow: runs were due before all of them were created"
                )
            api.wait(roots, _TIMEOUT_S)
        found = {run["name"]: run for run in _runs_of(api, pool)}
        runs = [found[_name(run)] for run in range(len(plan.deployment))]
        states = [api.call("GET", f"/flow_run_states/?flow_run_id={run['id']}") for run in runs]
        polled = {report.stem: json.loads(report.read_text()) for report in reports if report.exists()}
    instants = np.array([_instants_s(run, each, begin) for run, each in zip(runs, states, strict=True)])
    scheduled, offered, claimed, ended = instants.T
    takers = [run.get("labels", {}).get(_WORKER_LABEL) for run in runs]
    gaps = [np.diff(each) for each in polled.values()]
    return RecordedDay(
        plan=plan,
        scheduled_s=scheduled,
        offered_s=offered,
        claimed_s=claimed,
        ended_s=ended,
        poll_s=float(np.concatenate(gaps).mean()) if gaps else None,
        answer_s=_answer_s(claimed + begin, takers, polled),
    )


def start_process_worker(server: RealServer, pool: str, worker: WorkerSpec, report: Path) -> Process:
    """Prefect's process worker; it polls all queues, without a limit, and does not tell when."""
    from tests import real_prefect

    return real_prefect.start_worker(server, pool)


def start_holding_worker(server: RealServer, pool: str, worker: WorkerSpec, report: Path) -> Process:
    """Prefect's base worker, which holds a run for its seconds instead of starting a process."""
    from tests.real_prefect import Process

    command = ["-m", "benchmarks.live.holding_worker", "--pool", pool, "--poll", f"{POLL_S:g}", "--name", worker.name]
    command += [] if worker.limit is None else ["--limit", str(worker.limit)]
    command += [part for queue in worker.queues for part in ("--work-queue", queue)]
    command += ["--report", str(report)]
    quiet = {"PREFECT_LOGGING_TO_API_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "WARNING"}
    return Process([sys.executable, *command], server.env(**quiet), server.home / f"{worker.name}.log")


def _server_settings(plan: DayPlan) -> dict[str, str]:
    late = "PREFECT_SERVER_SERVICES_LATE_RUNS_"
    return {
        f"{late}ENABLED": "true",
        f"{late}AFTER_SECONDS": f"{plan.late_after_s:g}",
        f"{late}LOOP_SECONDS": f"{plan.late_loop_s:g}",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": f"{plan.slot_wait_s:g}",
    }


def _build(api: Api, plan: DayPlan, folder: Path) -> tuple[str, list[str]]:
    """Make pool, queues and deployments; returns the name of the pool and the ids of the deployments."""
    pool = api.pool(limit=plan.limit)
    for queue in plan.queues:
        api.queue(pool, queue.name, priority=queue.priority, limit=queue.limit)
    groups: dict[str, str] = {}
    ids = []
    for each in plan.deployments:
        more: dict[str, Any] = {"entrypoint": "rest.py:rest", "path": folder} | _limit(api, each, groups)
        ids.append(api.deployment(pool, each.queue, flow="rest", name=each.name, **more))
    return pool, ids


def _limit(api: Api, each: DeploymentSpec, groups: dict[str, str]) -> dict[str, Any]:
    """The limit of a deployment as Prefect is told of it; one that is shared is made once."""
    if each.limit is None:
        return {}
    options = {"collision_strategy": "CANCEL_NEW" if each.cancels_new else "ENQUEUE"}
    if each.limit_group is None:
        return {"concurrency_limit": each.limit, "concurrency_options": options}
    if each.limit_group not in groups:
        body = {"name": each.limit_group, "limit": each.limit}
        groups[each.limit_group] = api.call("POST", "/v2/concurrency_limits/", body)["id"]
    return {"global_concurrency_limit_id": groups[each.limit_group], "concurrency_options": options}


def _create(api: Api, plan: DayPlan, run: int, deployments: Sequence[str], begin_s: float) -> str:
    """Create a run that nobody calls; it is told whom it is to call."""
    called = plan.calls[plan.calls[:, 0] == run, 1]
    parameters: dict[str, Any] = {"seconds": float(plan.seconds[run])}
    if len(called):
        parameters["calls"] = [
            {"deployment": deployments[plan.deployment[child]], "name": _name(child),
             "seconds": float(plan.seconds[child])} for child in called
        ]  # fmt: skip
        parameters["calls_at"] = plan.deployments[plan.deployment[run]].calls_at
    at_s = begin_s + float(plan.at_s[run])
    return api.run(deployments[plan.deployment[run]], at_s=at_s, name=_name(run), parameters=parameters)


def _name(run: int) -> str:
    return f"run-{run}"


def _runs_of(api: Api, pool: str) -> list[dict[str, Any]]:
    """All runs of a pool."""
    found: list[dict[str, Any]] = []
    body = {"work_pools": {"name": {"any_": [pool]}}, "limit": 200, "sort": "ID_DESC"}
    while page := api.call("POST", "/flow_runs/filter", body | {"offset": len(found)}):
        found += page
    return found


def _wait_for_workers(api: Api, pool: str, count: int) -> None:
    """Wait until all workers have reported."""
    give_up_s = time.monotonic() + 120.0
    while len(api.call("POST", f"/work_pools/{pool}/workers/filter", {})) < count:
        if time.monotonic() > give_up_s:
            raise InvalidInputError("workers", count, f"have not all reported to pool {pool}")
        time.sleep(0.2)


def _instants_s(
    run: Mapping[str, Any], states: Sequence[Mapping[str, Any]], begin_s: float
) -> tuple[float, float, float, float]:
    """When a run was scheduled, offered, claimed and over, seconds from the beginning."""
    first: dict[str, float] = {}
    for state in sorted(states, key=lambda state: unix_s(state["timestamp"])):
        for key in (state["type"], state["name"]):
            first.setdefault(key, unix_s(state["timestamp"]) - begin_s)
    claimed = first.get("PENDING", np.nan)
    ended = first["COMPLETED" if "COMPLETED" in first else "CANCELLED"]
    offered = min(claimed, first.get("AwaitingConcurrencySlot", np.inf)) if claimed == claimed else ended
    details = min(states, key=lambda state: unix_s(state["timestamp"]))["state_details"]
    return unix_s(details["scheduled_time"]) - begin_s, offered, claimed, ended


def _answer_s(claimed: Array, takers: Sequence[str | None], polled: Mapping[str, Sequence[float]]) -> float:
    """Mean seconds from a poll to the claims that came of it; 0 if nobody told when it polled."""
    waits = []
    for at_s, taker in zip(claimed, takers, strict=True):
        before = [poll for poll in polled.get(taker or "", ()) if poll <= at_s]
        if before:
            waits.append(at_s - before[-1])
    return float(np.mean(waits)) if waits else 0.0

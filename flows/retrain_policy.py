"""Retrain the policy of a pool, as a flow to deploy and schedule.

    prefect deploy flows/retrain_policy.py:retrain_policy -n weekly --pool POOL --cron "0 3 * * 0"

Steps: sync the history, calibrate a scenario of the pool, fit an agent to it with each seed (`rl.fit`), compare the
best of them with the rule that was tuned on this very pool, on days that neither fitting nor choice has used, register
it as challenger, and check the promotion gate. The champion's alias moves only if the gate passes and `move` is set;
controllers run a new champion in shadow before it decides. Fits and evaluation episodes are task runs: in threads (each
starts processes of its own), in processes, or on a Dask cluster
(`PREFECT_INTELLIGENT_TASK_RUNNER=threads|processes|dask`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from prefect_intelligent.errors import InvalidInputError, MissingExtraError, UnknownNameError
from prefect_intelligent.history.sync import sync
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.model_registry.promotion import CHALLENGER, GateEvidence, check_gate, promote
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.settings import Settings, load_settings
from prefect_intelligent.wiring.history import open_runs, open_source
from prefect_intelligent.wiring.model_registry import PolicyRegistry, open_policy_store
from rl.evaluate import Contest, join_parts, make_report, play_part
from rl.evaluation.comparisons import TUNED, Played
from rl.evaluation.report import page, write_report
from rl.fit import read_choice
from rl.register import register

RUNNER: Final = "PREFECT_INTELLIGENT_TASK_RUNNER"
_MOST_AT_ONCE: Final = 2
_CHECKOUT: Final = Path(__file__).parents[1]


def choose_runner(name: str | None = None) -> TaskRunner[Any]:
    """Where the tasks of a retraining run.

    Args:
        name: "threads", "processes" or "dask"; None reads the environment.

    Raises:
        UnknownNameError: There is no such runner.
        MissingExtraError: prefect-dask is not installed.
    """
    wanted = name or os.environ.get(RUNNER) or "threads"
    if wanted == "threads":
        return ThreadPoolTaskRunner(max_workers=_MOST_AT_ONCE)
    if wanted == "processes":
        return ProcessPoolTaskRunner(max_workers=_MOST_AT_ONCE)
    if wanted != "dask":
        raise UnknownNameError(RUNNER, wanted, ("threads", "processes", "dask"))
    try:
        from prefect_dask import DaskTaskRunner  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("retraining on Dask", "prefect-dask", install="pip install prefect-dask") from error
    runner: TaskRunner[Any] = DaskTaskRunner(address=os.environ.get("DASK_SCHEDULER_ADDRESS"))
    return runner


@task
def sync_history() -> int:
    """Copy what is new on the Prefect server into the history; returns the ended runs copied."""
    settings = load_settings().settings
    return sync(open_source(), open_runs(settings), SystemClock(), events=False).runs


@task
def calibrate_pool(pool: str, days: float, hours: float, folder: str) -> str:
    """Fit a scenario to the pool's history; returns its file."""
    path = Path(folder) / f"{pool}.toml"
    _run("simulations.calibrate", "--history", "--pool", pool, "--days", days, "--hours", hours, "-o", path)
    return str(path)


@task
def fit_seed(scenario: str, seed: int, effort: float, folder: str) -> str:
    """Fit an agent to the scenario; returns the folder of the fit."""
    out = Path(folder) / f"seed-{seed}"
    _run("rl.fit", "--pool", scenario, "--seed", seed, "--effort", effort, "--out", out, "--resume")
    return str(out)


@task
def choose_fit(fits: Sequence[str]) -> str:
    """The fit whose agent was cheapest on the days to choose by, which are the same for all."""
    return min(fits, key=lambda folder: float(read_choice(Path(folder))["usd"]))


@task
def evaluate_part(contest: Contest, case: str, part: int, parts: int) -> Played:
    """Play one share of the episodes of a case."""
    return play_part(contest, case, part, parts)


@task
def register_candidate(bundle: str, report: str) -> str:
    """Register the candidate as challenger, with its figures; returns its version."""
    store = open_policy_store(load_settings().settings)
    if isinstance(store, PolicyRegistry):
        return register(store, Path(bundle), Path(report), CHALLENGER)
    version = store.add(Path(bundle))
    found = json.loads(Path(report).read_text(encoding="utf-8"))
    store.set_alias(CHALLENGER, version, why=str(found["context"]["verdict"]), at_s=time.time())
    return version


@task
def ask_gate(version: str, report: str, move: bool) -> dict[str, Any]:
    """Check the promotion gate, and move the champion's alias if it passes and `move` is set."""
    store = open_policy_store(load_settings().settings)
    evidence = GateEvidence.from_report(json.loads(Path(report).read_text(encoding="utf-8")))
    judgement = check_gate(evidence, store.weights_sha256(version))
    done = promote(store, version, evidence, at_s=time.time(), dry_run=not move).done
    return {"version": version, "passed": judgement.passed, "promoted": done, "reasons": list(judgement.reasons)}


@flow(task_runner=choose_runner())
def retrain_policy(
    pool: str,
    days: float = 30.0,
    hours: float = 24.0,
    seeds: Sequence[int] = (0, 1),
    effort: float = 1.0,
    episodes: int = 40,
    parts: int = 4,
    policies: str = "default-rule,rules",
    move: bool = False,
    folder: str | None = None,
) -> dict[str, Any]:
    """Retrain the policy of a pool and check the promotion gate.

    Args:
        pool: Work pool whose history is learned from.
        days: Days of history that are used.
        hours: Length of a simulated day.
        seeds: One fit each.
        effort: Factor on what a fit spends, see `rl.fit`.
        episodes: Evaluation episodes.
        parts: Task runs among which they are divided.
        policies: What the candidate is compared with beside the rule tuned on the pool, see `rl.evaluate`.
        move: Whether the champion's alias moves if the gate passes.
        folder: Folder for files; None takes a new one in the data folder. Fits that are there already go on.

    Returns:
        The result of the gate, the verdict, the figures and the folder of the files.
    """
    retrain_id = uuid.uuid4().hex[:12]
    settings = load_settings().settings
    place = Path(folder) if folder else settings.folder / "retrainings" / f"{time.strftime('%Y%m%d')}-{retrain_id}"
    place.mkdir(parents=True, exist_ok=True)
    get_run_logger().info("retraining %s of pool %s in %s", retrain_id, pool, place)

    sync_history()
    scenario = calibrate_pool(pool, days, hours, str(place))
    fits = [fit_seed.submit(scenario, seed, effort, str(place)) for seed in seeds]
    chosen = choose_fit([each.result() for each in fits])
    candidate = f"{chosen}/agent"

    contest = Contest(
        suite=(scenario,),
        policies=f"candidate={candidate},{TUNED}={chosen}/rule.json,{policies}",
        episodes=episodes,
        planner_episodes=episodes,
        front=False,
    )
    began = time.perf_counter()
    cases = [case.name for case in contest.chosen()[0]]
    played = {case: [evaluate_part.submit(contest, case, part, parts) for part in range(parts)] for case in cases}
    results = {case: join_parts([each.result() for each in found]) for case, found in played.items()}
    report = make_report(contest, results, seconds=time.perf_counter() - began)
    written = write_report(report, place / "evaluation") / "report.json"

    version = register_candidate(candidate, str(written))
    outcome = ask_gate(version, str(written), move)
    outcome |= {"retrain_id": retrain_id, "pool": pool, "folder": str(place), "verdict": report["context"]["verdict"]}
    _record(settings, outcome, report)
    return outcome | {"figures": report["figures"]}


def _record(settings: Settings, outcome: dict[str, Any], report: dict[str, Any]) -> None:
    """Spool the result for MLflow and write it as an artifact."""
    record = {"pool": outcome["pool"], "promoted": outcome["promoted"], **report["figures"]}
    Spool(settings.spool_dir).append("retraining", record, event_id=f"retraining:{outcome['retrain_id']}")
    gate = "\n".join(f"- {reason}" for reason in outcome["reasons"])
    create_markdown_artifact(
        key="retraining",
        markdown=f"Version {outcome['version']}, gate:\n\n{gate}\n\n{page(report, [])}",
        description=f"Retraining {outcome['retrain_id']} of work pool {outcome['pool']}",
    )


def _run(module: str, *words: object) -> None:
    """Run a module of the checkout in a process of its own.

    Raises:
        InvalidInputError: It failed; the message holds the end of its stderr.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(_CHECKOUT), os.environ.get("PYTHONPATH"))))}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InvalidInputError(f"python -m {module}", f"exit code {done.returncode}", done.stderr.strip()[-800:])

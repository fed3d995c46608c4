"""Retrain the policy of a pool, as a flow to deploy and schedule.

    prefect deploy flows/retrain_policy.py:retrain_policy -n weekly --pool POOL --cron "0 3 * * 0"

Steps: sync the history, calibrate a scenario of the pool, fit an agent to it with each seed (`rl.fit`), compare the
best of them with the rule that was tuned on this very pool, on days that neither fitting nor choice has used, register
it as challenger, and check the promotion gate. The champion's alias moves only if the gate passes and `move` is set;
controllers run a new champion in shadow before it decides. Fits and evaluation episodes are task runs: in threads (each
starts processes of its own), in processes, or on a Dask cluster
(`PREFECT_INTELLIGENT_TASK_RUNNER=threads|processes|dask`). They are given the files that they need and give back those
that they have made, so their machines need a checkout and no shared folder; history, registry and the flow's own folder
belong to the machine of the flow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
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
from rl.parallel.packing import pack, unpack
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
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise MissingExtraError("retraining on Dask", "cluster") from error
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


@task(persist_result=False, cache_policy=NO_CACHE)
def fit_seed(name: str, scenario: str, seed: int, effort: float) -> bytes:
    """Fit an agent to a scenario, the text of a file of that name; returns the packed folder of the fit."""
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-fit-") as place:
        file, out = Path(place) / name, Path(place) / "fit"
        file.write_text(scenario, encoding="utf-8")
        _run("rl.fit", "--pool", file, "--seed", seed, "--effort", effort, "--jobs", 1, "--out", out)
        return pack(out)


@task
def choose_fit(fits: Sequence[str]) -> str:
    """The fit whose agent was cheapest on the days to choose by, which are the same for all."""
    return min(fits, key=lambda folder: float(read_choice(Path(folder))["usd"]))


@task(persist_result=False, cache_policy=NO_CACHE)
def evaluate_part(
    files: bytes, scenario: str, policies: str, episodes: int, case: str, part: int, parts: int
) -> Played:
    """Play one share of the episodes of a case, with the packed folder that `make_contest` reads."""
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-contest-") as place:
        contest = make_contest(unpack(files, Path(place)), scenario, policies, episodes)
        return play_part(contest, case, part, parts)


def make_contest(folder: Path, scenario: str, policies: str, episodes: int) -> Contest:
    """What is compared: the agent and the rule of the fit in a folder, and others, on the scenario's file in it."""
    return Contest(
        suite=(str(folder / scenario),),
        policies=f"candidate={folder / 'agent'},{TUNED}={folder / 'rule.json'},{policies}",
        episodes=episodes,
        planner_episodes=episodes,
        front=False,
    )


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
        policies: What the candidate is compared with beside the rule tuned on the pool, see `rl.evaluate`; names of
            rules, or files that the machines of the tasks have too.
        move: Whether the champion's alias moves if the gate passes.
        folder: Folder for files; None takes a new one in the data folder. Fits that are there already are taken.

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
    file, text = Path(scenario).name, Path(scenario).read_text(encoding="utf-8")
    folders = {seed: place / f"seed-{seed}" for seed in seeds}
    fits = {
        seed: fit_seed.submit(file, text, seed, effort)
        for seed, folder in folders.items()
        if not (folder / "agent" / "manifest.json").exists()
    }
    for seed, fitted in fits.items():
        unpack(fitted.result(), folders[seed])
    chosen = Path(choose_fit([str(folder) for folder in folders.values()]))

    contested = place / "contest"
    shutil.copytree(chosen / "agent", contested / "agent", dirs_exist_ok=True)
    for source in (chosen / "rule.json", Path(scenario)):
        shutil.copy(source, contested)
    contest, files = make_contest(contested, file, policies, episodes), pack(contested)
    began = time.perf_counter()
    cases = [case.name for case in contest.chosen()[0]]
    played = {
        case: [evaluate_part.submit(files, file, policies, episodes, case, part, parts) for part in range(parts)]
        for case in cases
    }
    results = {case: join_parts([each.result() for each in found]) for case, found in played.items()}
    report = make_report(contest, results, seconds=time.perf_counter() - began)
    written = write_report(report, place / "evaluation") / "report.json"

    version = register_candidate(str(chosen / "agent"), str(written))
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

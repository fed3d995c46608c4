"""The retraining flow on a real server, tiny; and a controller that takes the new champion over while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")

from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.history.rows import RunFact
from prefect_intelligent.model_registry.adapters.folder import PolicyFiles
from prefect_intelligent.model_registry.promotion import CHALLENGER, CHAMPION
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.history import open_runs
from tests.bundles import random_bundle
from tests.real_prefect import Api, RealServer

pytestmark = [pytest.mark.server, pytest.mark.slow]


def wait_for(holds: Callable[[], Any], timeout_s: float = 90.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def home(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREFECT_INTELLIGENT_POLICIES", str(tmp_path / "policies"))
    return tmp_path


def past_runs(pool: str, count: int = 400) -> list[RunFact]:
    """Two days of short runs in two queues."""
    now_s = SystemClock().now_s()
    found = []
    for number in range(count):
        queue = ("fast", "slow")[number % 2]
        at_s = now_s - 2 * 86_400 + number * 2 * 86_400 / count
        found.append(
            RunFact(
                run_id=f"00000000-0000-0000-0000-{number:012d}",
                deployment=f"{queue}/nightly",
                name=None,
                version=None,
                host=None,
                cause=None,
                size=None,
                expected_s=None,
                attempts=1,
                failure_usd=0.0,
                message=None,
                pool=pool,
                queue=queue,
                state="COMPLETED",
                submitted_s=at_s,
                scheduled_s=at_s,
                started_s=at_s + 4,
                ended_s=at_s + 4 + (60 if queue == "fast" else 300) * (1 + number % 3),
                due_s=at_s + 900,
                late_usd_per_hour=5.0,
            )
        )
    return found


def test_from_history_to_challenger_and_gate(home: Path, api: Api) -> None:
    from flows.retrain_policy import retrain_policy

    pool = api.pool(limit=3)
    for place, name in enumerate(("fast", "slow"), 10):
        api.queue(pool, name, priority=place)
    open_runs(load_settings().settings).put(runs=past_runs(pool))
    outcome = retrain_policy(
        pool,
        days=3,
        hours=1,
        seeds=(2,),
        effort=0.001,
        episodes=4,
        parts=2,
        policies="default-rule,prefect-default",
        move=True,
        folder=str(home / "retraining"),
    )
    assert outcome["passed"] is False  # four episodes prove nothing
    assert any("4 paired episodes" in reason for reason in outcome["reasons"])
    assert {"ratio_vs_tuned", "ratio_vs_tuned_hi", "guard_violations"} <= set(outcome["figures"])
    store = PolicyFiles(home / "policies")
    assert store.alias(CHALLENGER) == outcome["version"]
    assert store.alias(CHAMPION) is None
    report = json.loads((home / "retraining" / "evaluation" / f"{pool}-1x" / "report.json").read_text())
    assert report["context"]["episodes_per_case"] == 4
    assert {"candidate", "tuned"} <= set(report["context"]["model_sha256"])
    fit = home / "retraining" / "seed-2"
    assert all((fit / name).exists() for name in ("rule.json", "chosen.json", "agent/manifest.json"))


def test_the_fit_that_is_cheapest_on_the_days_to_choose_by_is_taken(tmp_path: Path) -> None:
    from flows.retrain_policy import choose_fit

    for name, usd in (("a", 3.0), ("b", 2.0), ("c", 2.5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chosen.json").write_text(json.dumps({"agent": "rule", "usd": usd}))
    assert choose_fit.fn([str(tmp_path / name) for name in "abc"]) == str(tmp_path / "b")


def test_an_unknown_runner_is_refused() -> None:
    from flows.retrain_policy import choose_runner

    with pytest.raises(UnknownNameError, match="processes"):
        choose_runner("proceses")
    assert type(choose_runner("processes")).__name__ == "ProcessPoolTaskRunner"


def test_a_running_controller_takes_a_new_champion_over(home: Path, api: Api, prefect_server: RealServer) -> None:
    pool = api.pool(limit=2)
    store = PolicyFiles(home / "policies")
    first, second = (store.add(random_bundle(home / f"b{number}", number)) for number in (1, 2))
    store.set_alias(CHAMPION, first, why="test", at_s=1.0)
    env = prefect_server.env(
        PREFECT_INTELLIGENT_DATA_DIR=str(home / "data"),
        PREFECT_INTELLIGENT_POLICIES=str(home / "policies"),
        PREFECT_INTELLIGENT_LOOK_AHEAD_MS="0",
        PREFECT_INTELLIGENT_INTERVAL_S="1",
    )
    words = ["control", "run", "--pool", pool, "--policy", "champion", "--mode", "shadow", "--json"]
    with (home / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect_intelligent", *words], env=env, stdout=said, cwd=home
        )

    def policies() -> list[str]:
        lines = [json.loads(line) for line in (home / "said").read_text().splitlines() if line.endswith("}")]
        return [line["decision"]["policy"] for line in lines if line["decision"]]

    try:
        wait_for(lambda: f"champion {first}" in policies())
        before = len(policies())
        store.set_alias(CHAMPION, second, why="test", at_s=2.0)
        wait_for(lambda: f"champion {second}" in policies())
        watched = policies()[before:].index(f"champion {second}")
        assert watched >= 9  # it was in shadow for ten decisions
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(20)

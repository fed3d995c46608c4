"""The gate, the policy store, and the policy that follows the champion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.model_registry.adapters.folder import PolicyFiles
from prefect_intelligent.model_registry.champion_policy import ChampionPolicy
from prefect_intelligent.model_registry.promotion import CHAMPION, GateEvidence, check_gate, promote
from prefect_intelligent.model_registry.replay_evidence import evaluate_on_history
from prefect_intelligent.policy import Census, P, Q, parse_policy
from prefect_intelligent.policy.bundle import WEIGHTS
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.spec import PoolSpec
from tests.bundles import random_bundle

GOOD = GateEvidence(
    weights_sha256="", source="test", ratio=0.97, ratio_high=0.99, worst_ratio=1.02, guard_violations=0, episodes=40
)


@pytest.fixture
def store(tmp_path: Path) -> PolicyFiles:
    return PolicyFiles(tmp_path / "store")


def added(store: PolicyFiles, tmp_path: Path, seed: int) -> tuple[str, GateEvidence]:
    version = store.add(random_bundle(tmp_path / f"b{seed}", seed))
    return version, replace(GOOD, weights_sha256=store.weights_sha256(version))


@pytest.mark.parametrize(
    "worse",
    [
        {"ratio_high": 1.0},
        {"worst_ratio": 1.051},
        {"guard_violations": 1},
        {"episodes": 19},
        {"weights_sha256": "of another bundle"},
    ],
)
def test_the_gate_refuses(store: PolicyFiles, tmp_path: Path, worse: dict[str, object]) -> None:
    version, good = added(store, tmp_path, 1)
    assert check_gate(good, good.weights_sha256).passed
    move = promote(store, version, replace(good, **worse), at_s=0.0, dry_run=False)
    assert not move.done
    assert store.alias(CHAMPION) is None
    assert sum(reason.startswith("refused") for reason in move.gate.reasons) == 1


def test_half_a_line_in_the_log_is_passed_over(store: PolicyFiles, tmp_path: Path) -> None:
    version, good = added(store, tmp_path, 1)
    promote(store, version, good, at_s=0.0, dry_run=False)
    with (store.root / "aliases.jsonl").open("a") as log:
        log.write('{"alias": "champ')
    assert store.alias(CHAMPION) == version


def census() -> Census:
    table, pool = np.zeros((2, len(Q))), np.zeros(len(P))
    table[:, Q.PRESENT], table[:, Q.RANK], table[:, Q.LIMIT], table[:, Q.RESOURCE_CAPACITY] = 1, [0, 1], np.inf, np.inf
    pool[P.LIMIT] = 4
    return Census(table, pool)


def test_a_new_champion_takes_over_without_a_restart_after_its_shadow(store: PolicyFiles, tmp_path: Path) -> None:
    said: list[str] = []
    policy = ChampionPolicy(store, parse_policy("edf"), shadow_decisions=2, notice=said.append)
    assert policy.name == "edf"
    policy.propose(census())
    (first, one), (second, two) = added(store, tmp_path, 1), added(store, tmp_path, 2)
    promote(store, first, one, at_s=0.0, dry_run=False)
    policy.propose(census())
    assert policy.name == f"champion {first}"
    promote(store, second, two, at_s=1.0, dry_run=False)
    names = []
    for _ in range(4):
        policy.propose(census())
        names.append(policy.name)
    assert names == [f"champion {first}"] * 2 + [f"champion {second}"] * 2


def test_a_damaged_champion_leaves_the_last_good_one(store: PolicyFiles, tmp_path: Path) -> None:
    said: list[str] = []
    policy = ChampionPolicy(store, parse_policy("edf"), shadow_decisions=0, notice=said.append)
    (first, one), (second, two) = added(store, tmp_path, 1), added(store, tmp_path, 2)
    promote(store, first, one, at_s=0.0, dry_run=False)
    policy.propose(census())
    (store.folder(second) / WEIGHTS).write_bytes(b"damaged")
    promote(store, second, two, at_s=1.0, dry_run=False)
    for _ in range(3):
        policy.propose(census())
    assert policy.name == f"champion {first}"
    assert sum("refused" in line for line in said) == 1


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PREFECT_INTELLIGENT_POLICIES", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folder = random_bundle(tmp_path / "b", 1)
    sha256 = json.loads((folder / "manifest.json").read_text())["weights_sha256"]
    figures = {
        "ratio_vs_tuned": 0.97,
        "ratio_vs_tuned_hi": 0.99,
        "worst_scenario_ratio": 1.0,
        "guard_violations": 0.0,
    }
    context = {"weights_sha256": sha256, "suite": "validation", "episodes_per_case": 40}
    evidence = tmp_path / "evidence.json"
    evidence.write_text(json.dumps({"figures": figures, "context": context}))
    assert main(["promote", str(folder), "--evidence", str(evidence)]) == 0
    assert not (tmp_path / "store").exists()
    assert main(["promote", str(folder), "--evidence", str(evidence), "--apply"]) == 0
    assert PolicyFiles(tmp_path / "store").alias(CHAMPION) == sha256[:12]
    assert main(["promote", "--back"]) == 2
    evidence.write_text(json.dumps({"figures": figures | {"ratio_vs_tuned_hi": 1.01}, "context": context}))
    assert main(["promote", str(folder), "--evidence", str(evidence), "--apply"]) == 1
    evidence.write_text("{}")
    assert main(["promote", str(folder), "--evidence", str(evidence)]) == 2
    assert "error: " in capsys.readouterr().err


def test_history_as_evidence(tmp_path: Path) -> None:
    """A policy that is its rule proves nothing, a better one passes, a worse one is refused."""
    pytest.importorskip("numba")
    runs, pool = two_days()
    settings = {"regime": Regime(interval_s=60.0), "weights_sha256": "x", "source": "test"}
    fifo, dear_first = parse_policy("fifo"), parse_policy("static")
    same = evaluate_on_history(runs, pool, fifo, fifo, **settings)
    assert (same.ratio, same.ratio_high, same.worst_ratio, same.guard_violations) == (1.0, 1.0, 1.0, 0.0)
    better, worse = (
        evaluate_on_history(runs, pool, dear_first, fifo, **settings),
        evaluate_on_history(runs, pool, fifo, dear_first, **settings),
    )
    assert better.ratio < better.ratio_high < 1 < worse.ratio
    assert better.episodes >= 40
    assert [check_gate(each, "x").passed for each in (same, better, worse)] == [False, True, False]


def two_days() -> tuple[pd.DataFrame, PoolSpec]:
    """Every hour a burst of cheap runs, then dear ones behind them, in a pool of two slots."""
    rows = []
    for hour in range(48):
        for number, (queue, price) in enumerate([("cheap", 0.1)] * 6 + [("dear", 60.0)] * 2):
            at_s = 1.8e9 + 3600.0 * hour + number
            rows.append(
                {
                    "deployment": queue,
                    "queue": queue,
                    "state": "COMPLETED",
                    "scheduled_s": at_s,
                    "submitted_s": at_s,
                    "started_s": at_s + 5,
                    "ended_s": at_s + 405,
                    "due_s": at_s + 600,
                    "late_usd_per_hour": price,
                    "failure_usd": 0.0,
                }
            )
    queues = (QueueSetting(name="cheap", priority=1), QueueSetting(name="dear", priority=2))
    return as_runs(pd.DataFrame(rows)), PoolSpec(queues=queues, limit=2, prices=Prices(slot_usd_per_hour=0.1))


def test_too_little_history_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("PREFECT_INTELLIGENT_POLICIES", str(tmp_path / "store"))
    recording = str(Path(__file__).parents[3] / "docs" / "examples" / "demo-morning.json")
    folder = str(random_bundle(tmp_path / "bundle", 2))
    assert main(["promote", folder, "--recording", recording, "--apply", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["evidence"]["source"] == "replay of demo-morning.json"
    assert said["evidence"]["episodes"] < 20
    assert not (tmp_path / "store").exists()
    assert main(["promote", folder, "--recording", recording, "--replay", "1d"]) == 2

"""The recorded morning that is shipped with the project, and how a demo's result becomes such a recording."""

import json
from pathlib import Path

import pytest

from flows.demo.record import main, record
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.replay.adapters.recording_file import read_recording
from prefect_intelligent.replay.replay import replay
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.replay import recording_model

SHIPPED = Path(__file__).parents[3] / "docs/examples/demo-morning.json"
RUN = {
    "id": "r",
    "queue": "marts",
    "deployment": "mart/morning",
    "scheduled": "2026-01-01T06:00:00+00:00",
    "started": "2026-01-01T06:00:10+00:00",
    "running": "2026-01-01T06:00:13+00:00",
    "finished": "2026-01-01T06:00:20+00:00",
    "due": "2026-01-01T06:00:15+00:00",
    "late_usd_per_hour": 30.0,
    "failed": False,
}
RESULT = {
    "default": {"runs": [RUN], "priorities": [{"at_s": 0.0, "marts": 1}], "pool_limit": [{"at_s": 0.0, "slots": 2}]},
    "context": {"prices": {"slot_usd_per_hour": 0.1}},
}


def test_the_shipped_morning_is_better_under_a_rule_that_knows_deadlines():
    recording = read_recording(SHIPPED)
    policies = {name: parse_policy(name) for name in ("prefect-default", "edf")}
    regime = Regime(interval_s=5.0, guard=GuardSettings(interval_s=5))
    found = replay(recording.runs, recording_model(Settings(), recording), policies, regime=regime)
    assert len(found[0].runs) == len(recording.runs)
    assert found[1].saving_low_usd > 0


def test_a_demo_result_becomes_a_recording():
    found = record(RESULT)
    assert found.pool.limit == 2
    assert [queue.name for queue in found.queues] == ["marts"]
    assert found.startup_s == 3
    row = found.runs.iloc[0]
    assert row["ended_s"] - row["started_s"] == 7
    assert row["due_s"] - row["scheduled_s"] == 15


def test_a_file_that_is_no_demo_result_is_bad_input(tmp_path, capsys):
    with pytest.raises(InvalidInputError, match=r"result\.json of a demo"):
        record({"default": {}})
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"steered": 1}))
    assert main([str(path), str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.json").exists()

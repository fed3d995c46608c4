"""D5: all slots are held by parents that wait for children of the same pool: everybody says so, nobody promises."""

import json

import pytest

from prefect_intelligent import cli
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.history import InMemoryHistory
from tests.field.stage import Stage

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def stage(sqlite, prefect_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    return Stage(prefect_server)


def four_parents(stage):
    """Four parents in a pool of four, each waiting for a child for two minutes."""
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 4})
    parents = [stage.begin(stage.other) for _ in range(4)]
    children = [stage.child(parent, stage.owner) for parent in parents]
    for child in children:
        stage.earlier(child, 120.0)
    return parents, children


def said(capsys, *words):
    code = cli.main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_alerts_and_eta_say_it_and_an_end_of_it(stage, capsys):
    parents, children = four_parents(stage)
    sentence = f"all 4 slots of work pool {stage.pool} are held by parents that wait for runs in the same place"
    _, found = said(capsys, "doctor", "--pool", stage.pool)
    (finding,) = [one for one in found["findings"] if sentence in one["what"]]
    assert finding["level"] == "problem"
    code, found = said(capsys, "alerts", "--pool", stage.pool)
    (alert,) = [one for one in found["alerts"] if one["rule"] == "slots-held-by-parents"]
    assert code == 1
    assert sentence in alert["summary"]
    _, found = said(capsys, "eta", "--pool", stage.pool)
    assert {row["run"] for row in found["runs"]} == {*parents, *children}
    assert all(row["end_p50_s"] is None for row in found["runs"])
    assert cli.main(["eta", "--pool", stage.pool]) == 0
    assert "is held by a parent that waits" in capsys.readouterr().out
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 5})
    _, found = said(capsys, "alerts", "--pool", stage.pool)
    assert not any(one["rule"] == "slots-held-by-parents" for one in found["alerts"])
    _, found = said(capsys, "eta", "--pool", stage.pool)
    assert all(row["end_p50_s"] is not None for row in found["runs"])


def test_capacity_is_not_lowered_meanwhile_and_is_again_afterwards(stage):
    parents, _ = four_parents(stage)
    history, orchestrator = InMemoryHistory(), PrefectOrchestrator(PrefectApi(timeout_s=30.0), stage.pool)
    set_if_unset(history, stage.pool, "on", SystemClock().now_s(), by="me")
    rule = parse_policy("fifo+fixed:2")
    config = ControllerConfig(policy=rule, rule=rule, guard=GuardSettings(interval_s=0.0, hysteresis=0.0))
    decision = reconcile(orchestrator, history, SystemClock(), config)
    assert stage.api.numbers(stage.pool)[""][1] == 4
    assert any("held by a parent that waits" in reason for reason in decision.pool_limit.reasons)
    stage.end(parents[0])
    reconcile(orchestrator, history, SystemClock(), config)
    assert stage.api.numbers(stage.pool)[""][1] < 4


def test_a_parent_that_works_on_is_no_deadlock(stage):
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 2})
    stage.child(stage.begin(stage.other), stage.owner)
    stage.begin(stage.other)  # it waits for nobody
    snapshot = PrefectOrchestrator(PrefectApi(timeout_s=30.0), stage.pool).observe()
    assert [run.waits_for_pool for run in snapshot.queue("q").active].count(True) == 1
    assert not snapshot.held_by_parents

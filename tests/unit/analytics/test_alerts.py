"""Alerts: one per thing, folded by upstream, opened once, resolved by themselves, each with its page."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.dashboard_world import snapshot
from prefect_intelligent.analytics.alert_events import open_alerts, raise_alerts
from prefect_intelligent.analytics.alerts import (
    RUNBOOKS,
    Alert,
    deduplicate,
    from_causes,
    from_health,
    from_snapshot,
    silent_controller,
)
from prefect_intelligent.analytics.error_budget import error_budget
from prefect_intelligent.analytics.failure_signatures import FailureCause
from prefect_intelligent.analytics.health import Health, HealthStatus
from prefect_intelligent.domain import QueueSetting, QueueState, RunPhase
from prefect_intelligent.testing.history import InMemoryHistory

ROOT = Path(__file__).parents[3]
NOW = 30 * 86400.0


class Emitter:
    pool = "main"

    def __init__(self):
        self.sent = []

    def emit(self, event, payload):
        self.sent.append((event, payload["key"], payload["runbook"]))


def alert(key: str, severity="page") -> Alert:
    rule, subject = key.split(":")
    return Alert(key=key, rule=rule, subject=subject, severity=severity, summary=key, since_s=NOW)


@pytest.mark.parametrize("rule", RUNBOOKS)
def test_every_rule_has_its_page(rule):
    text = (ROOT / RUNBOOKS[rule]).read_text("utf-8")
    assert f"`{rule}`" in text.splitlines()[0]
    assert all(part in text for part in ("**Means.**", "**Look.**", "**Do.**", "**Resolves**"))


def test_an_alert_opens_once_and_resolves_after_two_looks_without_it():
    history, prefect = InMemoryHistory(), Emitter()
    hung = alert("hung-run:r1")
    assert raise_alerts([hung], prefect, history, NOW) == (["hung-run:r1"], [])
    assert raise_alerts([replace(hung, since_s=NOW + 60)], prefect, history, NOW + 60) == ([], [])
    assert open_alerts(history, "main")["hung-run:r1"]["since_s"] == NOW
    assert raise_alerts([], prefect, history, NOW + 120) == ([], [])
    assert raise_alerts([hung], prefect, history, NOW + 180) == ([], [])  # it only flickered
    assert raise_alerts([], prefect, history, NOW + 240) == ([], [])
    assert raise_alerts([], prefect, history, NOW + 300) == ([], ["hung-run:r1"])
    assert open_alerts(history, "main") == {}
    assert [event for event, _, _ in prefect.sent] == ["alert.opened", "alert.resolved"]
    assert prefect.sent[0][2] == "docs/how-to/runbooks/hung-run.md"


def test_downstream_is_folded_into_upstream():
    upstream = {"clean/x": ["ingest/x"], "report/x": ["clean/x"], "other/x": []}
    found = deduplicate([alert(f"keeps-failing:{name}/x") for name in ("report", "clean", "ingest", "other")], upstream)
    assert [(a.subject, a.folded) for a in found] == [("ingest/x", ("clean/x", "report/x")), ("other/x", ())]
    circle = deduplicate([alert("keeps-failing:a/x"), alert("keeps-failing:b/x")], {"a/x": ["b/x"], "b/x": ["a/x"]})
    assert {a.subject for a in circle} == {"a/x", "b/x"}  # a circle hides nothing


def test_what_has_one_cause_is_one_alert():
    burn = alert("budget-burn:etl/x", "page")
    cause = replace(alert("new-cause:KeyError", "ticket"), summary="3 runs failed by KeyError", folded=("etl/x",))
    (found,) = deduplicate([alert("keeps-failing:etl/x"), burn, cause], {})
    assert (found.key, found.severity) == ("keeps-failing:etl/x", "page")
    assert found.summary == "keeps-failing:etl/x; budget-burn:etl/x; 3 runs failed by KeyError"
    wider = replace(cause, folded=("etl/x", "other/x"))  # it also hits what has no alert of its own
    assert {a.rule for a in deduplicate([alert("keeps-failing:etl/x"), wider], {})} == {"keeps-failing", "new-cause"}
    below = replace(cause, folded=("etl/x", "late/x"))
    both = [alert("keeps-failing:etl/x"), alert("budget-burn:late/x"), below]
    (found,) = deduplicate(both, {"late/x": ["etl/x"]})
    assert found.folded == ("late/x",)


def test_pages_come_before_tickets():
    found = deduplicate([alert("new-cause:x", "ticket"), alert("hung-run:y")], {})
    assert [a.severity for a in found] == ["page", "ticket"]


def test_failures_in_a_row_and_burning_budgets_become_alerts():
    burning = error_budget([(NOW - 3600.0, NOW)], NOW)
    bad = Health(
        name="etl/x",
        status=HealthStatus.DEGRADED,
        score=10.0,
        terms=(),
        gates=("the last 4 runs failed",),
        budget=burning,
    )
    two = replace(bad, gates=("the last 2 runs failed",), budget=None)
    assert {a.rule for a in from_health([bad], NOW)} == {"keeps-failing", "budget-burn"}
    assert from_health([two], NOW) == []
    assert from_health([replace(bad, status=HealthStatus.UNKNOWN)], NOW) == []  # of no run that has ended


def test_only_new_causes_are_alerts():
    cause = FailureCause(
        signature="KeyError",
        failures=3,
        deployments=("etl/x",),
        first_s=NOW - 600,
        last_s=NOW,
        introduced_by="v2",
        host=None,
        wasted_s=1.0,
    )
    (found,) = from_causes([cause], NOW)
    assert "came with version v2" in found.summary
    assert from_causes([replace(cause, first_s=NOW - 90_000), replace(cause, failures=2)], NOW) == []


def test_hung_runs_and_starving_queues_are_seen():
    pool = snapshot(NOW, runs=60, queues=2)
    running = next(pool.runs(RunPhase.RUNNING))
    usual = {run.deployment: 1e9 for run in pool.runs()}
    assert [a.rule for a in from_snapshot(pool, usual, [])] == []
    hung = from_snapshot(pool, usual | {running.deployment: 1.0}, [])
    assert f"hung-run:{running.id}" in [a.key for a in hung]
    old = tuple(replace(run, scheduled_s=NOW - 7200) for run in pool.queues[0].waiting)
    starved = QueueState(setting=QueueSetting(name="queue-0", priority=99), waiting=old)
    found = from_snapshot(replace(pool, queues=(starved, pool.queues[1])), usual, [])
    assert [a.key for a in found] == ["queue-starving:queue-0"]
    paused = replace(starved, setting=QueueSetting(name="queue-0", priority=99, paused=True))
    assert from_snapshot(replace(pool, queues=(paused, pool.queues[1])), usual, []) == []


def test_risks_are_grouped_by_queue():
    pool = snapshot(NOW, runs=12, queues=1)
    rows = [
        {"deployment": f"d{i}", "queue": "q", "chance": c, "usd_per_hour": 3.0} for i, c in enumerate((0.9, 0.95, 0.5))
    ]
    (found,) = from_snapshot(pool, {}, rows)
    assert (found.key, found.folded) == ("deadline-at-risk:q", ("d0", "d1"))


def test_a_controller_that_falls_silent_is_noticed():
    assert silent_controller("main", None, 20.0, NOW) == []
    assert silent_controller("main", NOW - 60, 20.0, NOW) == []
    assert silent_controller("main", NOW - 101, 20.0, NOW)[0].rule == "controller-silent"

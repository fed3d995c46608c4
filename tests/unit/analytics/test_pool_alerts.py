"""The command and the dashboard find the same alerts, and the command builds no dashboard for it."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from benchmarks.dashboard_world import builder, graph, past, records, snapshot
from prefect_intelligent.analytics.pool_alerts import AlertFinder
from prefect_intelligent.domain import Prices
from prefect_intelligent.errors import OrchestratorUnavailableError, StoreError
from prefect_intelligent.testing.history import InMemoryHistory

NOW = time.time()
POOL = snapshot(NOW)


def finder(**changes) -> AlertFinder:
    frame = past(NOW)
    given = {
        "observe": lambda: POOL,
        "read_runs": lambda since_s: frame,
        "history": records(NOW),
        "pool": "warehouse",
        "prices": Prices(slot_usd_per_hour=0.12, min_billing_s=900.0, idle_fraction=0.1),
        "graph": graph,
        "now": lambda: NOW,
    }
    return AlertFinder(**(given | changes))


def test_the_dashboard_shows_the_alerts_that_the_command_finds():
    build = builder(lambda: NOW)
    build()
    build.wait()
    shown = [(row["key"], row["summary"], row["folded"]) for row in build()["alerts"]]
    assert [(alert.key, alert.summary, list(alert.folded)) for alert in finder()()] == shown
    assert shown


def test_runs_are_analysed_again_only_when_the_findings_are_old():
    reads = []

    def read_runs(since_s):
        reads.append(since_s)
        return past(NOW)

    often, seldom = finder(read_runs=read_runs, refresh_s=0.0), finder(read_runs=read_runs)
    assert often() == often() == seldom() == seldom()
    assert len(reads) == 3
    assert reads[0] == NOW - 7 * 86400.0


def test_without_runs_and_without_a_graph_the_pool_itself_is_looked_at():
    found = finder(read_runs=lambda _: past(NOW).iloc[:0], graph=None, history=InMemoryHistory())()
    assert {alert.rule for alert in found} <= {"deadline-at-risk", "queue-starving"}
    silent = InMemoryHistory()
    silent.append("decision", "warehouse", NOW - 3600.0, {"at_s": NOW - 3600.0, "outcome": "applied"})
    silent.append("decision", "warehouse", NOW, {"at_s": "no instant"})  # cannot be read: left out
    idle = replace(POOL, queues=())
    (alert,) = finder(observe=lambda: idle, read_runs=lambda _: past(NOW).iloc[:0], graph=None, history=silent)()
    assert alert.key == "controller-silent:warehouse"


def test_what_cannot_be_read_is_an_error_and_not_an_all_clear():
    def no_answer():
        raise OrchestratorUnavailableError("no answer")

    def no_history(_):
        raise StoreError("the disk is full")

    with pytest.raises(OrchestratorUnavailableError):
        finder(observe=no_answer)()
    failing = finder(read_runs=no_history)
    for _ in range(2):
        with pytest.raises(StoreError):
            failing()
    assert finder(graph=no_answer)()  # alerts without a graph are only not merged


def test_the_command_imports_no_dashboard():
    code = (
        "import sys; import prefect_intelligent.cli.alerts, prefect_intelligent.wiring.analytics; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in loaded if name.startswith(("prefect_intelligent.dashboard", "fastapi", "uvicorn"))]
    assert "prefect_intelligent.analytics.pool_alerts" in loaded

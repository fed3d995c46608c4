"""Runs that nothing has announced are remembered for two hours; what a schedule or an upstream brings is not."""

from __future__ import annotations

from prefect_intelligent.domain import Estimate, Run, RunPhase
from prefect_intelligent.domain.snapshot import MOST_RECENT, RECENT_S
from prefect_intelligent.steering.recent_arrivals import RecentArrivals


def run(key: str, at_s: float, phase: RunPhase = RunPhase.WAITING, queue: str = "a") -> Run:
    return Run(
        id=key, deployment="f/d", queue=queue, phase=phase, scheduled_s=at_s, estimate=Estimate(p50_s=60, p90_s=90)
    )


def ids(found: RecentArrivals, queue: str = "a") -> list[str]:
    return [each.id for each in found.of(queue)]


def test_what_was_there_at_first_is_a_backlog_and_what_comes_later_an_arrival():
    found = RecentArrivals()
    found.observe([run("old", 900.0)], set(), 1000.0)
    assert ids(found) == []
    assert found.watched_s(1000.0) == 0.0
    found.observe([run("old", 900.0), run("new", 1010.0), run("other", 1011.0, queue="b")], set(), 1020.0)
    assert ids(found) == ["new"]
    assert ids(found, "b") == ["other"]
    assert found.watched_s(1020.0) == 20.0


def test_announced_runs_are_none_even_after_they_have_started():
    found = RecentArrivals()
    found.observe([], set(), 0.0)
    found.observe([run("planned", 50.0, RunPhase.UPCOMING), run("by a schedule", 9.0)], {"by a schedule"}, 10.0)
    found.observe([run("planned", 50.0), run("by a schedule", 9.0)], {"by a schedule"}, 60.0)
    assert ids(found) == []


def test_they_are_kept_when_they_are_over_but_not_longer_than_two_hours():
    found = RecentArrivals()
    found.observe([], set(), 0.0)
    found.observe([run("one", 5.0)], set(), 10.0)
    found.observe([], set(), RECENT_S)
    assert ids(found) == ["one"]
    found.observe([], set(), RECENT_S + 6.0)
    assert ids(found) == []
    assert found.watched_s(2 * RECENT_S) == RECENT_S


def test_the_newest_are_given_and_the_past_counts_where_it_is_known():
    found = RecentArrivals()
    found.begin([run(f"p{number}", float(number)) for number in range(300)], since_s=-RECENT_S)
    found.observe([run("new", 301.0)], set(), 302.0)
    assert ids(found)[:2] == ["new", "p299"]
    assert len(ids(found)) == MOST_RECENT
    assert found.watched_s(302.0) == RECENT_S


def test_a_clock_that_goes_backwards_begins_anew():
    found = RecentArrivals()
    found.observe([], set(), 1000.0)
    found.observe([run("one", 1001.0)], set(), 1005.0)
    found.observe([run("one", 1001.0)], set(), 500.0)
    assert ids(found) == []
    assert found.watched_s(500.0) == 0.0

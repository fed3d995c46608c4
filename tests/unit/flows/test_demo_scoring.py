"""The demo's figures on records made by hand."""

import pytest

from flows.demo.scoring import RunRecord, count_stale_reads, score_arm, start_places
from prefect_intelligent.domain.objective import Prices

PRICES = Prices(slot_usd_per_hour=3.60, idle_fraction=0.5)  # a tenth of a cent per slot-second


def run(id: str, queue: str, scheduled: float, started: float, finished: float, **more: object) -> RunRecord:
    values = {"due_s": None, "late_usd_per_hour": 0.0, "running_s": started, **more}
    return RunRecord(
        id=id,
        deployment=f"{id}/x",
        queue=queue,
        scheduled_s=scheduled,
        started_s=started,
        finished_s=finished,
        **values,  # type: ignore[arg-type]
    )


REPORT = run("report", "reports", 1000, 1060, 1100, due_s=1040, late_usd_per_hour=90.0)  # a minute late
MART = run("mart", "marts", 1010, 1010, 1030, due_s=1040, late_usd_per_hour=30.0, reads_from=("report",))  # in time
FILL = run("fill", "backfill", 1000, 1000, 1060, due_s=1030, late_usd_per_hour=0.0)  # late, but nobody pays


def test_weighted_minutes_late_weigh_each_run_by_its_price_over_the_mean_price():
    score = score_arm([REPORT, MART, FILL], PRICES, [(1000, 2)])
    assert score.late_runs == 2
    assert score.weighted_late_minutes == pytest.approx(1.0 * 90 / 40 + 0.5 * 0 / 40)
    assert score.makespan_s == 100


def test_cost_is_busy_and_idle_slots_and_lateness_and_failures():
    failed = run("failed", "marts", 1000, 1090, 1100, failure_usd=7.0, failed=True)
    score = score_arm([REPORT, MART, FILL, failed], PRICES, [(1000, 2)])
    held_s, paid_for_s = 40 + 20 + 60 + 10, 2 * 100
    assert score.cost.capacity_usd == pytest.approx(0.001 * (held_s + 0.5 * (paid_for_s - held_s)))
    assert score.cost.lateness_usd == pytest.approx(90 / 60)
    assert score.cost.failure_usd == 7.0


def test_idle_slots_follow_the_limit_as_it_changed():
    one = run("one", "marts", 1000, 1000, 1100)
    # 2 slots for 20 s, 4 for 50 s, 1 for the last 30 s; samples outside the arm count from its edges
    score = score_arm([one], PRICES, [(990, 2), (1020, 4), (1070, 1), (1200, 9)])
    assert score.cost.capacity_usd == pytest.approx(0.001 * (100 + 0.5 * (40 + 200 + 30 - 100)))


def test_runs_without_a_price_of_lateness_weigh_nothing():
    assert score_arm([FILL], PRICES, [(1000, 1)]).weighted_late_minutes == 0.0


def test_places_in_the_order_of_starts_per_queue():
    assert start_places([REPORT, MART, FILL]) == {"backfill": [1], "marts": [2], "reports": [3]}


def test_a_read_is_stale_if_its_writer_had_not_finished():
    assert count_stale_reads([REPORT, MART, FILL]) == 1
    fresh = run("mart", "marts", 1010, 1095, 1130, running_s=1101, reads_from=("report",))
    assert count_stale_reads([REPORT, fresh]) == 0

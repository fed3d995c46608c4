"""The twin hands out slots as a real Prefect server and its workers do."""

import os

import numpy as np
import pytest

from simulations.against_prefect.comparison import agreement, compare, worst
from simulations.against_prefect.days import DAYS, PROCESS_DAY, plan_day
from simulations.against_prefect.recording import RecordedDay, record_day, start_process_worker

RUNS = 24


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
def test_order_and_waits_are_those_of_the_process_worker():
    figures = compare(record_day(plan_day(PROCESS_DAY, RUNS, seed=1), start_process_worker), worlds=100, seed=1)
    assert figures["wait_p50_spread"] < 0.05, "the day does not determine its own median: compare another"
    assert figures["order_agreement"] == pytest.approx(1.0, abs=0.02)
    assert figures["wait_p50_error"] < 0.10
    assert figures["wait_p90_error"] < 0.10


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
@pytest.mark.skipif(not os.environ.get("EVERY_DAY"), reason="takes minutes a day; EVERY_DAY=1 plays them")
@pytest.mark.parametrize("name", [name for name in DAYS if name != PROCESS_DAY])
def test_order_and_waits_are_those_of_workers_limits_groups_and_parents(name):
    figures = compare(record_day(plan_day(name, RUNS, seed=1)), worlds=100, seed=1)
    noise = {share: 2.0 * figures[f"wait_{share}_spread"] for share in ("p50", "p90")}
    assert figures["order_agreement"] == pytest.approx(1.0, abs=0.02)
    assert figures["wait_p50_error"] < max(0.10, noise["p50"])
    assert figures["wait_p90_error"] < max(0.10, noise["p90"])
    if name == "limits":
        assert figures["cancelled"] > 0
        assert figures["cancelled_agreement"] > 0.8


def day(names, scheduled, claimed, **more):
    plan = plan_day(more.get("plan", PROCESS_DAY), 12, seed=1)
    numbers = [next(i for i, each in enumerate(plan.deployments) if each.name == name) for name in names]
    claimed = np.array(claimed, dtype=float)
    columns = {"at_s": np.array(scheduled, dtype=float), "seconds": np.full(len(names), 5.0)}
    calls = np.array(more.get("calls", []), dtype=np.int64).reshape(-1, 2)
    return RecordedDay(
        plan=type(plan)(
            name=plan.name,
            queues=plan.queues,
            limit=plan.limit,
            deployments=plan.deployments,
            workers=plan.workers,
            deployment=np.array(numbers),
            calls=calls,
            **columns,
        ),
        scheduled_s=columns["at_s"],
        offered_s=claimed,
        claimed_s=claimed,
        ended_s=claimed + 5,
    )


def test_agreement_counts_only_pairs_whose_order_prefect_determines():
    real = day(["bulk", "bulk", "normal", "urgent"], [0, 0, 0, 90], [10, 20, 30, 100])
    swapped = np.array([[20.0, 10.0, 5.0, 200.0]])
    # bulk before bulk is determined; normal has a limit of its own; urgent did not wait yet
    assert agreement(real, real.claimed_s[None]) == 1.0
    assert agreement(real, swapped) == 0.0


def test_a_queue_comes_before_another_only_where_all_workers_of_the_other_poll_it():
    # `normal` is polled by both workers, `bulk` by one of them, `urgent` only by the other.
    real = day(["normal", "bulk"], [0, 0], [10, 20], plan="workers")
    assert agreement(real, np.array([[20.0, 10.0]])) == 0.0
    real = day(["urgent", "bulk", "bulk"], [0, 0, 0], [10, 20, 30], plan="workers")
    assert agreement(real, np.array([[25.0, 20.0, 30.0]])) == 1.0


def test_children_of_two_parents_that_come_together_may_come_in_any_order_and_those_of_one_may_not():
    names = ["orchestrate", "orchestrate", "load", "load"]
    two = day(names, [0, 0, 20, 20.5], [1, 1, 30, 40], plan="parents", calls=[(0, 2), (1, 3)])
    swapped = np.array([[1.0, 1.0, 40.0, 30.0]])
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        assert np.isnan(agreement(two, swapped))  # no pair is determined
    one = day(names, [0, 0, 20, 20.5], [1, 1, 30, 40], plan="parents", calls=[(0, 2), (0, 3)])
    assert agreement(one, swapped) == 0.0


def test_the_worst_of_the_days_is_told_beside_each_of_them():
    good = {"order_agreement": 1.0, "wait_p50_error": 0.02, "wait_p90_error": 0.01}
    bad = {"order_agreement": 0.9, "wait_p50_error": 0.01, "wait_p90_error": 0.2}
    figures = worst({"a": good, "b": bad})
    assert (figures["order_agreement"], figures["wait_p50_error"], figures["wait_p90_error"]) == (0.9, 0.02, 0.2)
    assert figures["b_wait_p90_error"] == 0.2

"""The twin hands out slots as a real Prefect server and process worker do."""

import numpy as np
import pytest

from simulations.against_prefect import QUEUES, RecordedDay, agreement, compare, record_day


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
def test_order_and_waits_are_those_of_real_prefect():
    figures = compare(record_day(runs=24, seed=1), worlds=100, seed=1)
    assert figures["wait_p50_spread"] < 0.05, "the day does not determine its own median: compare another"
    assert figures["order_agreement"] == pytest.approx(1.0, abs=0.02)
    assert figures["wait_p50_error"] < 0.10
    assert figures["wait_p90_error"] < 0.10


def day(queues, scheduled, claimed):
    numbers = [next(i for i, each in enumerate(QUEUES) if each.name == name) for name in queues]
    claimed = np.array(claimed, dtype=float)
    return RecordedDay(
        queue=np.array(numbers),
        scheduled_s=np.array(scheduled, dtype=float),
        claimed_s=claimed,
        started_s=claimed + 1,
        ended_s=claimed + 5,
    )


def test_agreement_counts_only_pairs_whose_order_prefect_determines():
    real = day(["bulk", "bulk", "normal", "urgent"], [0, 0, 0, 90], [10, 20, 30, 100])
    swapped = np.array([[20.0, 10.0, 5.0, 200.0]])
    # bulk before bulk is determined; normal has a limit of its own; urgent did not wait yet
    assert agreement(real, real.claimed_s[None]) == 1.0
    assert agreement(real, swapped) == 0.0

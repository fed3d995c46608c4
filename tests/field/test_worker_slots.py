"""What the workers carry at once is set, or learned from runs that wait although the pool has room."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, QueueState, Run, RunPhase, Snapshot
from prefect_intelligent.replay.eta import predict_run_times
from prefect_intelligent.replay.worker_slots import learned_slots
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.preflight import check_settings
from prefect_intelligent.wiring.replay import snapshot_model

NOW = 1_750_000_000.0
NONE = pd.DataFrame({"started_s": [], "ended_s": []})


def run(number, phase, deployment, ago_s):
    started_s = NOW - ago_s if phase is RunPhase.RUNNING else None
    estimate = Estimate(p50_s=600.0, p90_s=660.0)
    return Run(
        id=f"{phase}{number}", deployment=deployment, queue="q", phase=phase, scheduled_s=NOW - ago_s,
        estimate=estimate, started_s=started_s,
    )  # fmt: skip


def pool(limit=20, queue_limit=None, waiting_s=300.0, waits="b/d"):
    """A worker with --limit 4 under a pool limit of 20: four at work, sixteen wait."""
    return Snapshot(
        at_s=NOW,
        pool=PoolSetting(name="p", limit=limit),
        queues=(
            QueueState(
                setting=QueueSetting(name="q", priority=1, limit=queue_limit),
                active=tuple(run(n, RunPhase.RUNNING, "a/d", 200.0) for n in range(4)),
                waiting=tuple(run(n, RunPhase.WAITING, waits, waiting_s) for n in range(16)),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("snapshot", "slots"),
    [
        (pool(), 4),
        (pool(limit=None), 4),
        (pool(limit=4), None),  # the pool has no room
        (pool(queue_limit=4), None),  # the queue has none
        (pool(waiting_s=20.0), None),  # the next poll may take them
        (pool(waits="a/d"), None),  # the deployment may be at its limit
        (replace(pool(), pool=PoolSetting(name="p", limit=20, paused=True)), None),
    ],
    ids=range(7),
)
def test_slots_of_workers_are_learned_where_nothing_else_holds_runs_back(snapshot, slots):
    assert learned_slots(snapshot, NONE) == slots


def test_the_most_at_once_counts_since_the_run_has_waited():
    def past(*spans):
        return pd.DataFrame([{"started_s": NOW - a, "ended_s": NOW - b} for a, b in spans])

    assert learned_slots(pool(), past((280.0, 150.0), (280.0, 160.0))) == 6
    assert learned_slots(pool(), past((900.0, 400.0), (900.0, 400.0))) == 4


def starts(settings, slots):
    snapshot = pool()
    model = snapshot_model(settings, snapshot, slots=slots)
    from prefect_intelligent.policy import parse_policy
    from prefect_intelligent.policy.regime import Regime

    etas = predict_run_times(
        snapshot, model, parse_policy("prefect-default"), Regime(), np.random.default_rng(0), futures=8
    )
    return sum(eta.start_p50_s is not None and eta.start_p50_s < NOW + 100.0 for eta in etas)


def test_eta_starts_no_more_runs_than_the_workers_carry():
    assert starts(Settings(), None) == 16
    assert starts(Settings(), 4) == 0
    assert starts(Settings(pools={"p": {"worker_slots": 4}}), None) == 0


def test_a_pool_limited_by_its_workers_is_no_problem():
    queues = [QueueSetting(name=name, priority=n) for n, name in enumerate("ab", start=1)]
    assert [found.level for found in check_settings(PoolSetting(name="p"), queues)] == ["problem"]
    assert [found.level for found in check_settings(PoolSetting(name="p"), queues, 4)] == ["fine"]

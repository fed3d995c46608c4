from prefect_intelligent.domain import PoolSetting, QueueSetting, QueueState, Snapshot
from prefect_intelligent.domain.objective import Prices
from prefect_intelligent.domain.runs import Estimate, Run, RunPhase
from prefect_intelligent.steering.cost_rate import current_cost_rate

ESTIMATE = Estimate(p50_s=60.0, p90_s=90.0)


def run(name, phase, scheduled_s, due_s=None, price=0.0):
    started_s = scheduled_s if phase is RunPhase.RUNNING else None
    return Run(
        id=name,
        deployment="f/d",
        queue="q",
        phase=phase,
        scheduled_s=scheduled_s,
        estimate=ESTIMATE,
        started_s=started_s,
        due_s=due_s,
        late_usd_per_hour=price,
    )


def test_the_stakes_are_those_of_the_objective():
    queue = QueueState(
        setting=QueueSetting(name="q", priority=1),
        waiting=(
            run("late", RunPhase.WAITING, 0.0, due_s=400.0, price=30.0),
            run("in time", RunPhase.WAITING, 900.0, due_s=5_000.0, price=10.0),
            run("no deadline", RunPhase.WAITING, 950.0),
        ),
        active=(run("late too", RunPhase.RUNNING, 100.0, due_s=700.0, price=60.0),),
    )
    prices = Prices(slot_usd_per_hour=2.0, idle_fraction=0.5, lateness_weight=2.0)
    found = current_cost_rate(
        Snapshot(at_s=1_000.0, pool=PoolSetting(name="p", limit=4), queues=(queue,), prices=prices)
    )
    # One slot held, three idle at half price; 600 s late at 30 and 300 s at 60 per hour, twice.
    assert found["capacity_usd_per_hour"] == 2.0 + 3 * 1.0
    assert found["lateness_usd_per_hour"] == (30.0 + 60.0) * 2.0
    assert found["cost_usd_per_hour"] == 5.0 + 180.0
    assert round(found["lateness_usd"], 9) == (600 * 30.0 + 300 * 60.0) * 2.0 / 3600
    mean_price = (30.0 + 10.0 + 60.0) / 3
    assert round(found["weighted_late_min"], 9) == round((10 * 30.0 + 5 * 60.0) / mean_price, 9)
    assert (found["longest_wait_s"], found["mean_wait_s"]) == (1_000.0, 1_150.0 / 3)


def test_an_empty_unlimited_pool_costs_nothing():
    assert set(current_cost_rate(Snapshot(at_s=0.0, pool=PoolSetting(name="p"), queues=())).values()) == {0.0}

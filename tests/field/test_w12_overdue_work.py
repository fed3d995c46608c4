"""W12: the rule that serves by default takes no slot away that overdue work pays for, and gives no false reason."""

import pytest

from prefect_intelligent.domain import Prices, RelativeDeadline, Terms
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.history import InMemoryHistory
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

SLOT_USD_PER_HOUR = 0.10


def decided(field, late_usd_per_hour, count):
    """Limit after four passes over a pool of four slots in which so many runs are overdue, and the last decision."""
    pool = field.pool(limit=4)
    owner = Owner(field, pool)
    publish_terms(
        PrefectApi(timeout_s=30.0),
        owner.flow,
        Terms(deadline=RelativeDeadline(within_s=1.0), late_usd_per_hour=late_usd_per_hour),
    )
    for _ in range(count):
        owner.run(in_s=-300.0)
    prices = Prices(slot_usd_per_hour=SLOT_USD_PER_HOUR)
    orchestrator = PrefectOrchestrator(PrefectApi(timeout_s=30.0), pool, prices=prices)
    history, rule = InMemoryHistory(), parse_policy("general")
    set_if_unset(history, pool, "on", SystemClock().now_s(), by="me")
    config = ControllerConfig(policy=rule, rule=rule, guard=GuardSettings(interval_s=0.0))
    for _ in range(4):
        decision = reconcile(orchestrator, history, SystemClock(), config)
    return field.numbers(pool)[""][1], decision


def test_no_slot_goes_while_overdue_work_pays_for_it(sqlite):
    limit, decision = decided(sqlite, late_usd_per_hour=98.0, count=12)
    assert limit >= 4
    assert not any("too small" in reason for reason in decision.pool_limit.reasons)


def test_slots_that_nothing_pays_for_go(sqlite):
    limit, _ = decided(sqlite, late_usd_per_hour=0.0, count=0)
    assert limit < 4

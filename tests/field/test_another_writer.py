"""Values that a program sets back again and again raise one alert that names its rhythm; what a person does, none."""

import pytest

from prefect_intelligent.analytics.alerts import another_writer
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.other_writer import find_set_backs
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
HOLD_S = 3600.0
RESYNC_S = 300.0


class Steered:
    """A pool whose limit we want at 2, on a clock that the test moves."""

    def __init__(self, api):
        self.api, self.history, self.pool = api, InMemoryHistory(), api.pool(limit=6)
        api.queue(self.pool, "a", priority=10)
        client = PrefectApi(timeout_s=30.0)
        self.clock = ManualClock(client.now_s())
        self.orchestrator = PrefectOrchestrator(client, self.pool, now=self.clock.now_s)
        set_if_unset(self.history, self.pool, "on", self.clock.now_s(), by="me")
        rule = parse_policy("fifo+fixed:2")
        guard = GuardSettings(interval_s=0.0, hysteresis=0.0)
        self.config = ControllerConfig(policy=rule, rule=rule, guard=guard, hold_s=HOLD_S)

    @property
    def limit(self):
        return self.api.numbers(self.pool)[""][1]

    def look(self):
        reconcile(self.orchestrator, self.history, self.clock, self.config)

    def steer(self):
        """Until the value is ours."""
        for _ in range(5):
            self.look()
            if self.limit == 2:
                return
            self.clock.jump(HOLD_S)
        raise AssertionError(self.limit)

    def set(self, limit):
        self.api.call("PATCH", f"/work_pools/{self.pool}", {"concurrency_limit": limit})

    def alerts(self):
        return another_writer(self.pool, find_set_backs(self.history, self.pool, self.clock.now_s()))


def test_a_program_is_told_by_its_rhythm_in_one_alert(sqlite):
    steered = Steered(sqlite)
    for place in range(4):
        assert steered.alerts() == [] or place > 2
        steered.steer()
        steered.clock.jump(RESYNC_S)
        steered.set(6)
        steered.look()
        assert steered.limit == 6  # it is left alone
        steered.clock.jump(HOLD_S)
    (alert,) = steered.alerts()
    assert alert.key == f"another-writer:{steered.pool}"
    assert "limit of the pool was set back to 6 4 times" in alert.summary
    assert "5 min after we had set it" in alert.summary


def test_a_person_who_tries_several_values_is_none(sqlite):
    steered = Steered(sqlite)
    for limit in (6, 5, 6, 7, 6):
        steered.steer()
        steered.clock.jump(RESYNC_S)
        steered.set(limit)
        steered.look()
        steered.clock.jump(HOLD_S)
    assert steered.alerts() == []

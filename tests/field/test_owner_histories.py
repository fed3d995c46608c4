"""Owners and we write in any order: at the end owners have exactly what they set last, and nothing held has started."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from prefect_intelligent.prefect_client.api import PrefectApi
from tests.field.histories import HOLDS, LIMITS, MEMORY, OPTIONS, POOL_LIMITS, History, new_pool

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1800)]

WHICH = st.integers(0, 1)


@pytest.mark.parametrize("examples", [15])
def test_owners_get_back_what_they_set_last(sqlite, examples):
    api, client = sqlite, PrefectApi(timeout_s=60.0)

    class Histories(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.history = History(api, client, new_pool(api))

        @rule(
            which=WHICH,
            limit=st.sampled_from(LIMITS),
            strategy=st.sampled_from(OPTIONS),
            memory=st.sampled_from(MEMORY),
        )
        def deploy(self, which, limit, strategy, memory):
            self.history.deploy(which, limit, strategy, memory)

        @rule(which=WHICH, limit=st.sampled_from(LIMITS))
        def edit_limit(self, which, limit):
            self.history.edit_limit(which, limit)

        @rule(which=WHICH, strategy=st.sampled_from(OPTIONS[1:]))
        def edit_strategy(self, which, strategy):
            self.history.edit_strategy(which, strategy)

        @rule(which=WHICH, paused=st.booleans())
        def pause(self, which, paused):
            self.history.pause(which, paused=paused)

        @rule(which=WHICH)
        def delete(self, which):
            self.history.delete(which)

        @rule(which=WHICH)
        def write_a_version(self, which):
            self.history.roll_back(which)

        @rule(which=WHICH, key=st.sampled_from(HOLDS))
        def hold(self, which, key):
            self.history.hold(which, key)

        @rule(most=st.integers(1, 3))
        def share(self, most):
            self.history.share(most)

        @rule(which=WHICH, times=st.sampled_from([2.0, 3.0]))
        def resize(self, which, times):
            self.history.resize(which, times)

        @rule(which=WHICH)
        def avoid(self, which):
            self.history.avoid(which)

        @rule(key=st.sampled_from((*HOLDS, "share", "memory 0", "host 1")))
        def release(self, key):
            self.history.release(key)

        @rule(limit=st.sampled_from(POOL_LIMITS))
        def set_pool_limit(self, limit):
            self.history.set_pool_limit(limit)

        @rule(priority=st.integers(1, 40))
        def set_priority(self, priority):
            self.history.set_priority(priority)

        @rule()
        def adopt(self):
            self.history.adopt()

        @rule(policy=st.sampled_from(["edf", "fifo+fixed:2", "wspt+fixed:3"]))
        def steer(self, policy):
            self.history.steer(policy)

        @rule()
        def restore(self):
            self.history.restore()

        @rule(on=st.booleans())
        def switch(self, on):
            self.history.switch(on=on)

        @rule()
        def look(self):
            self.history.look()
            assert self.history.held_runs_started == 0, self.history.steps

        def teardown(self):
            assert self.history.lost() == [], self.history.steps

    try:
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=examples,
                stateful_step_count=10,
                deadline=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        client.close()

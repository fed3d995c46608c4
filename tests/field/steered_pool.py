"""A pool of a real server as the commands of `control` treat it, with a history in memory."""

from __future__ import annotations

from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
from prefect_intelligent.steering.kill_switch import set_if_unset, set_switch
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.testing.history import InMemoryHistory


class SteeredPool:
    """One pool."""

    def __init__(self, client: PrefectApi, pool: str) -> None:
        self.pool, self.history, self.clock = pool, InMemoryHistory(), SystemClock()
        self.orchestrator = PrefectOrchestrator(client, pool)

    def adopt(self) -> None:
        """As `control adopt --apply` where no worker has to poll."""
        _, queues = self.orchestrator.settings()
        adoption = plan_adoption(self.orchestrator.deployments(), queues, "deployment")
        adopt(self.orchestrator, self.history, self.clock, adoption, wait_s=0.0)

    def steer(self, policy: str) -> None:
        """One pass, as `control run --mode auto` makes it."""
        set_if_unset(self.history, self.pool, "on", self.clock.now_s(), by="us")
        rule = parse_policy(policy)
        guard = GuardSettings(interval_s=0.0, hysteresis=0.0)
        reconcile(self.orchestrator, self.history, self.clock, ControllerConfig(policy=rule, rule=rule, guard=guard))

    def restore(self) -> None:
        """As `control restore`."""
        restore(self.orchestrator, self.history, self.clock, by="us")

    def switch(self, *, on: bool) -> None:
        """As `control on` and `control off`."""
        set_switch(self.history, self.pool, "on" if on else "off", self.clock.now_s(), "us")

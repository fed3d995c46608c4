"""What the fault tests share: a crewed pool on a real server and policies that always want something else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prefect_intelligent.policy import Census, Proposal, Q
from prefect_intelligent.settings import GuardSection, Settings
from prefect_intelligent.steering.decision_record import Decision
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.wiring.steering import PoolController, open_controller
from tests.real_prefect import Api, RealServer

QUEUES = ("a", "b", "c", "d")


class Restless:
    """Wants another order and other limits at every decision, so that every pass has something to write."""

    name = "restless"

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def propose(self, census: Census) -> Proposal:
        count = census[Q.LIMIT].shape[-1]
        limits = self.rng.integers(1, 9, count).astype(float)
        return Proposal(self.rng.permutation(count).astype(float), limits, np.asarray(float(self.rng.integers(1, 4))))


@dataclass(frozen=True, slots=True)
class Wants:
    """Wants the queues in the order of their names, or the other way round, and nothing else."""

    backwards: bool = False
    name: str = "wants"

    def propose(self, census: Census) -> Proposal:
        places = np.arange(census[Q.LIMIT].shape[-1], dtype=float)
        return Proposal(places if self.backwards else -places, census[Q.LIMIT], np.asarray(np.inf))


def make_pool(api: Api, runs: int = 2) -> str:
    """A pool of limit 3 with queues of mixed settings that all have runs waiting."""
    pool = api.pool(limit=3)
    for number, name in enumerate(QUEUES):
        api.queue(pool, name, priority=10 * (number + 1), limit=None if number % 2 else 4 + number)
        deployment = api.deployment(pool, name)
        for _ in range(runs):
            api.run(deployment, in_s=-5)
    return pool


def crew(
    server: RealServer, pool: str, folder: Path, policy: object, *, by: str = "test", lease_s: float = 60
) -> PoolController:
    """A controller for the pool whose guard lets every pass write."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    settings = Settings(data_dir=folder, guard=GuardSection(interval_s=0.0, hysteresis=0.0), interval_s=1.0)
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        made = open_controller(settings, pool, by=by, timeout_s=60.0, ttl_s=lease_s)
    set_switch(made.history, pool, "on", 0.0, by)
    return replace(made, config=replace(made.config, policy=policy))


def pass_that_writes(controller: PoolController, passes: int = 20) -> Decision:
    """The first pass that has something to write: what a restless policy wants may be what is in force already.

    Raises:
        AssertionError: None of so many passes has.
    """
    for _ in range(passes):
        if (decision := controller.reconcile()).outcome == "applied":
            return decision
    raise AssertionError(f"{passes} passes have written nothing; the last one was {decision.outcome}")


def usable(api: Api, pool: str) -> bool:
    """Whether a worker that asks now gets runs, and nothing has been shut."""
    numbers = api.numbers(pool)
    open_limits = all(limit is None or limit >= 1 for _, limit, _ in numbers.values())
    return open_limits and not any(paused for _, _, paused in numbers.values()) and bool(api.polled(pool))

"""Nodes in SimPy: a second model of bought slots, written from what the docs say of them and not from the twin.

One pool with one queue, whose runs are handed out at once. A node has a number: with runs packed on as few nodes as
possible, the node with number i (from 0) is empty whenever at most i nodes are needed. Each node that is not needed is
a process that sleeps for the cooldown and then sends a node back; it is interrupted when its node is needed again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simpy
from simpy.events import EventPriority

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

_LAST: Final = EventPriority(9)
"""Priority of SimPy events that come after all others of an instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityWorld:
    """A pool whose slots are bought, its runs, and the limits that are set in the course of it.

    Attributes:
        pool: The pool; polls and start-up take no time.
        at_s: When each run comes, shape (runs,), seconds.
        work_s: How long it works, shape (runs,), seconds.
        limits: Pool limits that are set, (seconds, slots), the soonest first.
    """

    pool: PoolSpec
    at_s: Array
    work_s: Array
    limits: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityDay:
    """What came of a world.

    Attributes:
        starts_s: When each run began to work, shape (runs,), seconds.
        usd: What the slots cost, US dollars.
        surplus_episodes: How often a node became too many.
    """

    starts_s: Array
    usd: float
    surplus_episodes: int = 0


def random_capacity_world(seed: int) -> CapacityWorld:
    """A world under an autoscaler (even seeds) or under planned limits (odd ones), with bursts and lulls."""
    rng = np.random.default_rng(seed)
    autoscaled = seed % 2 == 0
    bursts, size = int(rng.integers(6, 12)), int(rng.integers(3, 9))
    at_s = np.sort((1500.0 * np.arange(bursts)[:, None] + rng.exponential(200.0, (bursts, size))).ravel())
    node_slots = int(rng.integers(1, 5))
    cooldown_s = float(rng.uniform(30.0, 600.0))
    pool = PoolSpec(
        queues=(QueueSetting(name="queue", priority=1),),
        limit=int(rng.integers(2, 13)),
        max_slots=node_slots * int(rng.integers(3, 8)),
        min_slots=int(rng.integers(0, 3)),
        node_slots=node_slots,
        boot_s=float(rng.choice([0.0, rng.uniform(20.0, 300.0)])),
        cooldown_s=cooldown_s if autoscaled else float(rng.choice([0.0, cooldown_s])),
        node_min_billing_s=float(rng.choice([0.0, rng.uniform(100.0, 1500.0)])),
        follows_demand=autoscaled,
        claims_ahead=autoscaled or bool(rng.integers(2)),
        prices=Prices(slot_usd_per_hour=float(rng.uniform(0.1, 2.0)), idle_fraction=float(rng.uniform(0.2, 1.0))),
        poll_s=0.0,
        prefetch_s=0.0,
        startup_s=0.0,
    )
    changes = np.sort(rng.uniform(0.0, at_s[-1], 3 if autoscaled else 12))
    limits = tuple((float(change_s), int(rng.integers(1, pool.max_slots + 1))) for change_s in changes)
    return CapacityWorld(pool=pool, at_s=at_s, work_s=rng.lognormal(4.5, 1.0, len(at_s)), limits=limits)


def day_in_twin(world: CapacityWorld) -> CapacityDay:
    """The world in the twin."""
    count = len(world.at_s)
    never = np.full(count, np.inf)
    runs = Runs(
        deployment=np.zeros(count, np.int64),
        scheduled_s=world.at_s,
        known_s=world.at_s,
        work_s=world.work_s,
        p50_s=world.work_s,
        spread=np.zeros(count),
        due_s=never,
        due_within_s=never,
        outcome_source=np.full(count, COMPLETES, np.int8),
        edges=np.zeros((0, 2), np.int64),
    )
    twin = Twin(build_world([world.pool], [DeploymentSpec(name="job", queue="queue")], runs))
    for at_s, limit in world.limits:
        twin.advance(at_s)
        twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), np.inf), np.array([float(limit)])))
    twin.finish()
    return CapacityDay(starts_s=twin.state.runs["started_s"][0].copy(), usd=twin.cost().capacity_usd)


def day_in_simpy(world: CapacityWorld) -> CapacityDay:
    """The world in SimPy."""
    env = simpy.Environment()
    pool = _Pool(env, world)
    env.run(until=pool.over)
    pool.charge()
    return CapacityDay(starts_s=pool.starts_s, usd=pool.usd, surplus_episodes=pool.episodes)


class _Pool:
    """The pool as it is: runs in the queue, claimed runs without a node, runs on nodes, and the nodes."""

    def __init__(self, env: simpy.Environment, world: CapacityWorld) -> None:
        self.env, self.world, self.spec = env, world, world.pool
        self.limit = math.inf if world.pool.limit is None else float(world.pool.limit)
        self.queue: deque[int] = deque()
        self.line: deque[int] = deque()
        self.claimed, self.working, self.left = 0, 0, len(world.at_s)
        self.ordered_s = deque([0.0] * self.wanted())
        self.up = len(self.ordered_s)
        self.sleepers: list[simpy.Process] = []
        self.starts_s = np.full(len(world.at_s), math.nan)
        self.usd, self.charged_s, self.episodes, self.turn_set = 0.0, 0.0, 0, False
        self.over, self.changed = env.event(), env.event()
        env.process(self.arrivals())
        env.process(self.changes())

    def wanted(self) -> int:
        """Nodes that the limit, or the autoscaler, asks for."""
        slots = min(self.limit, self.spec.max_slots)
        if self.spec.follows_demand:
            slots = min(slots, self.claimed)
        return math.ceil(max(slots, self.spec.min_slots) / self.spec.node_slots)

    def charge(self) -> None:
        """Charge for the time since the last charge; nothing has changed in it."""
        hours = (self.env.now - self.charged_s) / 3600.0
        idle = max(len(self.ordered_s) * self.spec.node_slots - self.working, 0)
        rate = self.working + self.spec.prices.idle_fraction * idle
        self.usd += hours * rate * self.spec.prices.slot_usd_per_hour
        self.charged_s = self.env.now

    def arrivals(self) -> Generator[Any, Any, None]:
        """Runs come."""
        for run, at_s in enumerate(self.world.at_s.tolist()):
            yield self.env.timeout(at_s - self.env.now)
            self.queue.append(run)
            self.hand_out_later()

    def changes(self) -> Generator[Any, Any, None]:
        """The limit is set."""
        for at_s, limit in self.world.limits:
            yield self.env.timeout(at_s - self.env.now)
            self.charge()
            self.limit = float(limit)
            self.settle()
            self.hand_out_later()

    def hand_out_later(self) -> None:
        """Hand out runs when all else of this instant has happened."""
        if not self.turn_set:
            self.turn_set = True
            turn = self.env.event()
            turn._ok, turn._value = True, None  # as SimPy's own events are made that have a priority
            turn.callbacks.append(self.hand_out)
            self.env.schedule(turn, priority=_LAST)

    def hand_out(self, _: simpy.Event) -> None:
        """Claim runs while the limit has room, and the nodes where runs are not claimed ahead of them."""
        self.turn_set = False
        self.charge()
        while self.queue and self.claimed + 1 <= self.limit:
            if not self.spec.claims_ahead and self.working >= self.up * self.spec.node_slots:
                break
            self.claimed += 1
            self.line.append(self.queue.popleft())
            self.place()
            self.settle()

    def place(self) -> None:
        """Let claimed runs work while a node has a slot for them."""
        while self.line and self.working < self.up * self.spec.node_slots:
            self.working += 1
            self.env.process(self.work(self.line.popleft()))

    def work(self, run: int) -> Generator[Any, Any, None]:
        """A run works and ends."""
        self.starts_s[run] = self.env.now
        yield self.env.timeout(float(self.world.work_s[run]))
        self.charge()
        self.claimed, self.working, self.left = self.claimed - 1, self.working - 1, self.left - 1
        self.place()
        self.settle()
        self.hand_out_later()
        if self.left == 0:
            self.over.succeed()

    def settle(self) -> None:
        """Order what is missing; put a node to sleep for each that is too many, wake those that are needed again."""
        wanted = self.wanted()
        while len(self.ordered_s) < wanted:
            self.ordered_s.append(self.env.now)
            if self.spec.boot_s > 0:
                self.env.process(self.boot())
            else:
                self.up += 1
                self.place()
        surplus = max(0, len(self.ordered_s) - max(wanted, math.ceil(self.working / self.spec.node_slots)))
        while len(self.sleepers) > surplus:
            self.sleepers.pop().interrupt()
        while len(self.sleepers) < surplus:
            self.episodes += 1
            if self.spec.cooldown_s > 0 or self.is_full():
                self.sleepers.append(self.env.process(self.cool_down()))
            else:
                self.send_back()
                surplus -= 1
        changed, self.changed = self.changed, self.env.event()
        changed.succeed()

    def is_full(self) -> bool:
        """Whether runs sit on every node that is up."""
        return self.up - math.ceil(self.working / self.spec.node_slots) < 1

    def boot(self) -> Generator[Any, Any, None]:
        """A node boots and is there."""
        yield self.env.timeout(self.spec.boot_s)
        self.charge()
        self.up += 1
        self.place()
        self.settle()
        self.hand_out_later()

    def cool_down(self) -> Generator[Any, Any, None]:
        """A node that is too many goes after the cooldown, if it is up by then, else when it is."""
        try:
            yield self.env.timeout(self.spec.cooldown_s)
            while self.is_full():
                yield self.changed
        except simpy.Interrupt:
            return
        self.charge()
        self.sleepers.pop(0)  # it has slept longest
        self.send_back()

    def send_back(self) -> None:
        """The oldest node goes, and is paid for its minimum."""
        up_s = self.env.now - self.ordered_s.popleft()
        missing_s = max(0.0, self.spec.node_min_billing_s - up_s)
        self.usd += missing_s / 3600.0 * self.spec.node_slots * self.spec.prices.slot_usd_per_hour
        self.up -= 1


def compare_nodes(worlds: int, seed: int = 0, least_episodes: int = 3) -> dict[str, float]:
    """The twin against SimPy in random worlds: worst relative error of the cost, worst error of a start in seconds.

    Args:
        worlds: How many.
        seed: Of what is drawn.
        least_episodes: Worlds in which a node becomes too many less often are left out.
    """
    cost_error = start_error = 0.0
    compared, number = 0, 0
    while compared < worlds:
        world = random_capacity_world(1_000_000 * seed + number)
        number += 1
        there = day_in_simpy(world)
        if there.surplus_episodes < least_episodes:
            continue
        here = day_in_twin(world)
        cost_error = max(cost_error, abs(here.usd - there.usd) / there.usd)
        start_error = max(start_error, float(np.abs(here.starts_s - there.starts_s).max()))
        compared += 1
    return {"nodes_worlds": worlds, "nodes_cost_error": cost_error, "nodes_starts_error_s": start_error}

"""The planner on classic job shops: which rule orders all machines is chosen anew as the shop goes on.

Candidates are the orders of the rules; each decides until the next decision, then the order in charge goes on to the
end, and the one with the shortest makespan is followed. Planner and futures are those that a controller uses
(`policy.planner`, `twin.futures`); nothing is drawn, since a shop's durations are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from job_shop_lib import JobShopInstance

from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.planner import INCUMBENT, PlannerConfig, estimate_costs
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.futures import TwinFutures
from prefect_intelligent.twin.simulator import Twin
from simulations.foreign.jobshop import RULES, gap, makespan, ranks, shop_world, starts_in_twin

ORDERS: Final = tuple(name for name, rule in RULES.items() if rule.key is not None)
"""Rules that order the queues of a machine once and for all."""
_TO_THE_END_S: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticOrder:
    """A policy that always serves the queues in one order.

    Attributes:
        name: The rule that it is of.
        score: Shape (queues,): higher is served earlier.
    """

    name: str
    score: Array

    def propose(self, census: Census) -> Proposal:
        """The order; limits are left alone."""
        rows, queues = census.queues.shape[:2]
        kept = np.full((rows, queues), math.nan)
        return Proposal(np.broadcast_to(self.score, (rows, queues)), kept, np.full(rows, math.nan))


class ShopLoop(ClosedLoop):
    """Copies of a shop whose machines are decided on together: to a policy a shop is one pool with all queues."""

    @property
    def census(self) -> Census:
        """The census of every shop, one row each."""
        per_machine = self.twin.buffers.census
        worlds, columns = self.twin.n_worlds, per_machine.queues.shape[-1]
        return Census(
            per_machine.queues.reshape(worlds, -1, columns),
            per_machine.pool.reshape(worlds, -1, *per_machine.pool.shape[1:])[:, 0],
        )

    def fork(self, rows: npt.NDArray[Any], interval_s: float | None = None) -> ShopLoop:
        """As `ClosedLoop.fork`, of shops."""
        plain = super().fork(rows, interval_s)
        return ShopLoop(plain.twin, plain.regime, guarded=False)

    def step(
        self,
        wanted: Proposal,
        fallback: Proposal | None = None,
        until_s: Array | float | None = None,
        *,
        finishing: bool = False,
    ) -> Permitted:
        """As `ClosedLoop.step`, machine by machine."""
        width = self.twin.world.width
        machines = wanted.score.size // width
        split = Proposal(
            wanted.score.reshape(machines, width), wanted.limit.reshape(machines, width), np.full(machines, math.nan)
        )
        return super().step(split, fallback, until_s, finishing=finishing)


def orders(instance: JobShopInstance, queue_of: npt.NDArray[np.int64], queues: int) -> list[Policy]:
    """The candidates of a shop, in which operation i is in the queue `queue_of[i]` of `queues`."""
    found: list[Policy] = []
    for name in ORDERS:
        key = RULES[name].key
        assert key is not None
        score = np.zeros(queues)
        score[queue_of] = -ranks(instance, key).astype(float)
        if not any(np.array_equal(score, other.score) for other in found if isinstance(other, StaticOrder)):
            found.append(StaticOrder(name=name, score=score))
    return found


def planned_starts(instance: JobShopInstance, decisions: int) -> Array:
    """When each operation starts if the planner decides about so many times, shape (operations,)."""
    world = shop_world(instance, RULES[ORDERS[0]].key, delivery=True)
    count = instance.num_operations
    every_s = makespan(instance, starts_in_twin(instance, RULES[ORDERS[0]])) / decisions
    loop = ShopLoop(Twin(world), Regime(interval_s=every_s), guarded=False)
    candidates = orders(instance, world.runs["queue"][0, :count], world.queues.shape[1])
    in_charge = _cheapest(loop, candidates, _TO_THE_END_S)
    while loop.running[0]:
        others = [each for each in candidates if each is not in_charge]
        chosen = _cheapest(loop, [in_charge, *others], every_s)
        loop.step(chosen.propose(loop.census))
    starts: Array = loop.twin.state.runs["started_s"][0, :count].copy()
    return starts


def _cheapest(loop: ShopLoop, candidates: list[Policy], hold_s: float) -> Policy:
    """The candidate with the shortest makespan if it decides for `hold_s` and the first one after it."""
    config = PlannerConfig(
        step_s=hold_s, hold_s=hold_s, rest_step_s=_TO_THE_END_S, horizon_s=hold_s + _TO_THE_END_S,
        round_futures=1, most_futures=1, margin=0.0,
    )  # fmt: skip
    costs = estimate_costs(TwinFutures(loop=loop, rows=np.zeros(1, int), rng=None, step_s=hold_s), candidates, config)
    return candidates[INCUMBENT if costs is None else int(costs.best(0.0)[0])]


def plan_shops(shops: Mapping[str, JobShopInstance], decisions: int = 20) -> dict[str, float]:
    """`jobshop_planner_gap`: mean gap of the planner's makespan to the bound, as a share of it."""
    gaps = [gap(shop, planned_starts(shop, decisions)) for shop in shops.values()]
    return {"jobshop_planner_gap": float(np.mean(gaps))}

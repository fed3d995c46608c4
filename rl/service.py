"""The controller itself against the twin, as if the twin were the server.

Each pass makes a snapshot of the simulated pool, hands it to `steering`'s own decision (guard, shield, planner and look
ahead included) and puts the plan in force: what is measured is what is served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.steering.controller_state import ControllerState
from prefect_intelligent.steering.decide import ControllerConfig, LimitBounds, PlannedPass, decide
from prefect_intelligent.steering.lookahead import LookAhead
from prefect_intelligent.steering.manual_overrides import SettingValues, key_of
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec, WorkerSpec
from prefect_intelligent.twin.to_snapshot import snapshot_of
from simulations.metrics import EpisodeMetrics, measure

UNHURRIED: Final = PlannerConfig(budget_s=math.inf)
"""A controller's look ahead, bounded by its number of futures alone: the result does not hang on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A controller with its default settings and a policy.

    Attributes:
        policy: Decides; a planner asks the twin.
        rule: The base rule.
        look_ahead: How the twin is asked.
    """

    policy: Policy
    rule: Policy
    look_ahead: PlannerConfig = UNHURRIED

    @property
    def name(self) -> str:
        """The policy's name, marked."""
        return f"service of {self.policy.name}"


def as_served(policy: Policy) -> Policy | Service:
    """What a controller does with a policy: one that plans is played by its own decision step, without haste."""
    return Service(policy=policy, rule=policy.base) if isinstance(policy, Planner) else policy


def play_service(world: World, service: Service, regime: Regime) -> EpisodeMetrics:
    """Let the controller steer every world of a batch to its end, one after the other."""
    return EpisodeMetrics.join(
        [_play_one(World(*(table[row : row + 1] for table in world)), service, regime) for row in range(world.n_worlds)]
    )


def _play_one(world: World, service: Service, regime: Regime) -> EpisodeMetrics:
    """One episode."""
    twin = Twin(world)
    given, most = float(world.pools["limit"][0, 0]), float(world.pools["most"][0, 0])
    bound = min(most, max(1.0, regime.pool_factor * given))
    model = pool_of(world)
    config = ControllerConfig(
        policy=service.policy,
        rule=service.rule,
        guard=regime.guard,
        pool_bounds=LimitBounds(most=None if math.isinf(bound) else int(bound)),
        look_ahead=LookAhead(model=lambda _: model, config=service.look_ahead),
    )
    state = ControllerState()
    baseline: SettingValues = {(None, "limit"): None if math.isinf(given) else int(given)}
    for _ in range(regime.most_decisions):
        if twin.done[0]:
            break
        planned = decide(snapshot_of(twin), config, state, baseline, enabled=True, age_s=0.0)
        state = planned.next_state(
            state,
            values=dict(planned.values) | {key_of(change): change.after for change in planned.changes},
            pending={},
            written=planned.changes,
        )
        if planned.changes:
            _write(twin, planned)
        twin.advance(float(twin.now_s[0]) + regime.interval_s)
    twin.finish()
    return measure(twin, np.zeros(1))


def _write(twin: Twin, planned: PlannedPass) -> None:
    """Put a pass's changes in force, with the very priorities that it writes: other ones it would take for a person's."""
    held = twin.state.queues["priority"].copy()
    twin.plan(_in_force(planned, twin.world))
    there = np.flatnonzero(twin.world.queues["present"][0])
    number = {queue.name: place for queue, place in zip(planned.snapshot.queues, there, strict=True)}
    for change in planned.changes:
        if change.queue is not None and change.field == "priority":
            held[0, number[change.queue]] = change.after
    twin.state.queues["priority"][:] = held


def _in_force(planned: PlannedPass, world: World) -> Proposal:
    """What the server holds after a pass; absent queues, which pad a world to the width of its batch, come last."""
    plan, names = planned.plan, [queue.name for queue in planned.snapshot.queues]
    place = {name: number for number, name in enumerate(plan.order)}
    score, limit = np.full((1, world.width), -1e9), np.full((1, world.width), np.inf)
    there = np.flatnonzero(world.queues["present"][0])
    score[0, there] = [-float(place[name]) for name in names]
    limit[0, there] = [math.inf if plan.limits[name] is None else float(plan.limits[name] or 0) for name in names]
    return Proposal(score, limit, np.array([math.inf if plan.pool_limit is None else float(plan.pool_limit)]))


def pool_of(world: World) -> PoolSpec:
    """What an operator tells of the one pool of a world: its workers, how it polls, starts, buys and what it costs."""
    pool = world.pools[0, 0]
    there = np.flatnonzero(world.queues["present"][0])
    names = [f"queue-{number:02d}" for number in there]
    workers = [
        WorkerSpec(
            name=f"worker-{worker}",
            limit=None if math.isinf(world.workers["limit"][0, worker]) else int(world.workers["limit"][0, worker]),
            queues=tuple(f"queue-{number:02d}" for number in there if world.polled[0, worker, number]),
        )
        for worker in range(int(pool["first_worker"]), int(pool["first_worker"]) + int(pool["workers"]))
    ]
    return PoolSpec(
        queues=tuple(QueueSetting(name=name, priority=place + 1) for place, name in enumerate(names)),
        prices=Prices(
            slot_usd_per_hour=float(world.prices["usd_per_hour"][0, 0, 0]),
            min_billing_s=float(pool["min_billing_s"]),
            idle_fraction=float(pool["idle_fraction"]),
            lateness_weight=float(world.settings["lateness_weight"][0]),
        ),
        owned=bool(pool["owned"]),
        node_slots=int(pool["node_slots"]),
        max_slots=int(pool["max_slots"]),
        follows_demand=bool(pool["follows_demand"]),
        claims_ahead=bool(pool["claims_ahead"]),
        boot_s=float(pool["boot_s"]),
        cooldown_s=float(pool["cooldown_s"]),
        workers=tuple(workers),
        poll_s=float(pool["poll_s"]),
        prefetch_s=float(pool["prefetch_s"]),
        startup_s=float(pool["startup_s"]),
        startup_spread=float(pool["startup_spread"]),
    )

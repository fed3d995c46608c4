"""A day in the twin, under the same arms as on a server."""

from __future__ import annotations

from typing import Final

import numpy as np

from benchmarks.live.arms import Arm
from benchmarks.live.day import Day, day_cost, played
from prefect_intelligent.domain import Cost
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.rule_policy import RulePolicy, parse_policy
from prefect_intelligent.settings import Settings
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.wiring.steering import open_policy
from rl.service import Service, play_service

POLLS: Final = 16
"""Worlds per day, which differ in when the worker polls."""
_POLLS_LOOKED_AHEAD: Final = 4
"""The same for a policy that asks the twin at its decisions, which takes long."""


def twin_costs(day: Day, arm: Arm, worlds: int | None = None) -> list[Cost]:
    """What the day costs in the twin, once for each way in which the polls may fall.

    The policy decides at the controller's interval, behind its guard; one that looks ahead is played by the
    controller's own decision step. Decisions that an event brings forward are not in it.

    Args:
        day: The day.
        arm: Who steers.
        worlds: How many ways; without it as many as there is time for.
    """
    if arm.policy is not None:
        policy, rule = open_policy(Settings(), arm.policy), parse_policy(Settings().rule)
        if not isinstance(policy, RulePolicy):
            twin = repeat_day(day, worlds or _POLLS_LOOKED_AHEAD)
            found = play_service(twin.world, Service(policy=policy, rule=rule), arm.regime)
            return [
                Cost(capacity_usd=float(capacity), lateness_usd=float(lateness))
                for capacity, lateness in zip(found.capacity_usd, found.lateness_usd, strict=True)
            ]
    twin = repeat_day(day, worlds or POLLS)
    worlds = twin.world.n_worlds
    limits = play_arm(twin, day, arm)
    return [_cost(twin, row, day, [(float(at_s[row]), float(slots[row])) for at_s, slots in limits])
            for row in range(worlds)]  # fmt: skip


def repeat_day(day: Day, worlds: int) -> Twin:
    """The day as so many worlds, which differ in when the worker polls."""
    twin = Twin(stack([day.world] * worlds))
    twin.world.settings["seed"] = np.random.SeedSequence(day.seed).generate_state(worlds, np.uint64)
    twin.begin()
    return twin


def play_arm(twin: Twin, day: Day, arm: Arm) -> list[tuple[Array, Array]]:
    """Play the worlds of a twin to their ends; the pool's limit over time as (instants, slots), each per world."""
    limits = [(twin.now_s.copy(), twin.state.pools["limit"][:, 0].copy())]
    if arm.policy is None:
        twin.finish()
        return limits
    policy = open_policy(Settings(), arm.policy)
    loop = ClosedLoop(twin, arm.regime)
    while np.any(loop.running):
        decided_s = twin.now_s.copy()
        loop.step(policy.propose(loop.census), finishing=True)
        limits.append((decided_s, twin.state.pools["limit"][:, 0].copy()))
    return limits


def _cost(twin: Twin, row: int, day: Day, limits: list[tuple[float, float]]) -> Cost:
    """What one world has cost."""
    state = twin.state.runs[row, : len(day.runs)]
    runs = [
        played(run, float(own["first_claimed_s"]), float(own["finished_s"]))
        for run, own in zip(day.runs, state, strict=True)
    ]
    slots = [(at_s, None if np.isinf(limit) else int(limit)) for at_s, limit in limits]
    return day_cost(runs, day.pool.prices, slots, day.scenario.start_s)

"""Levers, guard, rule and features on the desk of one world: `policy`'s own functions, pool by pool."""

from __future__ import annotations

from typing import Any

from prefect_intelligent.policy.actions import adjust_pool
from prefect_intelligent.policy.census import P
from prefect_intelligent.policy.encoding import encode_pool
from prefect_intelligent.policy.guard_state import Bounds, GuardNumbers
from prefect_intelligent.policy.guard_steps import Draft, GuardMemory, RequestedSettings, permit_pool
from prefect_intelligent.policy.priority_rules import rank_pool
from prefect_intelligent.policy.rule_parameters import RuleNumbers
from prefect_intelligent.policy.rule_policy import propose_pool
from prefect_intelligent.twin.engine import jit_policies  # noqa: F401  (lets the functions above be called)
from prefect_intelligent.twin.engine.jit import compiled


@compiled
def apply_actions(desk: Any) -> None:
    """Want the base rule, corrected by the levels of the actions."""
    pools = desk.pools.shape[0]
    width = desk.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        desk.pool_limit[pool] = adjust_pool(
            desk.actions[pool],
            desk.rule_place[a:b],
            desk.rule_limit[a:b],
            desk.rule_pool_limit[pool],
            desk.pools[pool, P.ACTIVE],
            desk.score[a:b],
            desk.limit[a:b],
        )


@compiled
def apply_rule(desk: Any) -> None:
    """Want the base rule as it is."""
    for queue in range(desk.score.shape[0]):
        desk.score[queue], desk.limit[queue] = desk.rule_score[queue], desk.rule_limit[queue]
    for pool in range(desk.pools.shape[0]):
        desk.pool_limit[pool] = desk.rule_pool_limit[pool]


@compiled
def guard(desk: Any, now_s: float, backed: bool, numbers: GuardNumbers) -> None:
    """Turn what is wanted into what is permitted."""
    pools = desk.pools.shape[0]
    width = desk.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        draft = Draft(
            desk.place[a:b],
            desk.limit[a:b],
            desk.queue_notes[a:b],
            desk.kept[a:b],
            desk.sequence[a:b],
            desk.seat[a:b],
            desk.starts[a:b],
            desk.unmet[a:b],
        )
        verdict = permit_pool(
            desk.queues[a:b].T,
            desk.pools[pool],
            RequestedSettings(desk.score[a:b], desk.limit[a:b], desk.pool_limit[pool]),
            RequestedSettings(desk.rule_score[a:b], desk.rule_limit[a:b], desk.rule_pool_limit[pool]),
            backed,
            GuardMemory(
                desk.own_limit[a:b],
                desk.limit_changed_s[a:b],
                desk.order_changed_s[pool],
                desk.pool_changed_s[pool],
            ),
            Bounds(
                desk.queue_min[a:b],
                desk.queue_max[a:b],
                desk.order_pinned[a:b],
                desk.limit_pinned[a:b],
                desk.pool_min[pool],
                desk.pool_max[pool],
                desk.pool_pinned[pool],
            ),
            numbers,
            now_s,
            0.0,
            draft,
        )
        for queue in range(a, b):
            desk.score[queue] = -desk.place[queue]
        desk.pool_limit[pool], desk.pool_notes[pool] = verdict.pool_limit, verdict.notes
        if verdict.reordered:
            desk.order_changed_s[pool] = now_s
        if verdict.resized:
            desk.pool_changed_s[pool] = now_s


@compiled
def observe(desk: Any, numbers: RuleNumbers) -> None:
    """Ask the base rule about the census, and write the features of both."""
    pools = desk.pools.shape[0]
    width = desk.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        table, figures = desk.queues[a:b].T, desk.pools[pool]
        score, limit, place = desk.rule_score[a:b], desk.rule_limit[a:b], desk.rule_place[a:b]
        slots = propose_pool(table, figures, numbers, score, limit)
        desk.rule_pool_limit[pool] = slots
        rank_pool(score, table, place, desk.sequence[a:b])
        encode_pool(table, figures, place, limit, slots, desk.seen_queues[a:b], desk.seen_pools[pool])

"""Actions, guard, rule and features of one world: `policy`'s own functions, on its buffers, pool by pool."""

# The functions of policy are typed for lists, which an interpreter reads faster; compiled, they take arrays.
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from prefect_intelligent.policy.actions import adjust_pool
from prefect_intelligent.policy.census import P
from prefect_intelligent.policy.encoding import encode_pool
from prefect_intelligent.policy.guard_state import Bounds, GuardNumbers
from prefect_intelligent.policy.guard_steps import Draft, GuardMemory, RequestedSettings, permit_pool
from prefect_intelligent.policy.priority_rules import rank_pool
from prefect_intelligent.policy.rule_parameters import RuleNumbers
from prefect_intelligent.policy.rule_policy import propose_pool
from prefect_intelligent.twin.engine import jit_policies  # noqa: F401  (compiles the functions of policy)
from prefect_intelligent.twin.engine.decision_buffers import DecisionBuffers
from prefect_intelligent.twin.engine.jit import compiled


@compiled
def apply_actions(buffers: DecisionBuffers) -> None:
    """What is wanted becomes the base rule's proposal, corrected by the actions."""
    pools = buffers.pools.shape[0]
    width = buffers.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        buffers.pool_limit[pool] = adjust_pool(
            buffers.actions[pool],
            buffers.rule_place[a:b],
            buffers.rule_limit[a:b],
            buffers.rule_pool_limit[pool],
            buffers.pools[pool, P.ACTIVE],
            buffers.pools[pool, P.MOST],
            buffers.score[a:b],
            buffers.limit[a:b],
        )


@compiled
def apply_rule(buffers: DecisionBuffers) -> None:
    """What is wanted becomes the base rule's proposal."""
    for queue in range(buffers.score.shape[0]):
        buffers.score[queue], buffers.limit[queue] = buffers.rule_score[queue], buffers.rule_limit[queue]
    for pool in range(buffers.pools.shape[0]):
        buffers.pool_limit[pool] = buffers.rule_pool_limit[pool]


@compiled
def guard(buffers: DecisionBuffers, now_s: float, has_fallback: bool, numbers: GuardNumbers) -> None:
    """What is wanted becomes what is permitted; the base rule's proposal is the fallback, if there is to be one."""
    pools = buffers.pools.shape[0]
    width = buffers.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        draft = Draft(
            buffers.place[a:b],
            buffers.limit[a:b],
            buffers.queue_notes[a:b],
            buffers.kept[a:b],
            buffers.sequence[a:b],
            buffers.spare_sequence[a:b],
            buffers.starts[a:b],
            buffers.unmet[a:b],
        )
        verdict = permit_pool(
            buffers.queues[a:b].T,
            buffers.pools[pool],
            RequestedSettings(buffers.score[a:b], buffers.limit[a:b], buffers.pool_limit[pool]),
            RequestedSettings(buffers.rule_score[a:b], buffers.rule_limit[a:b], buffers.rule_pool_limit[pool]),
            has_fallback,
            GuardMemory(
                buffers.own_limit[a:b],
                buffers.limit_changed_s[a:b],
                buffers.order_changed_s[pool],
                buffers.pool_changed_s[pool],
            ),
            Bounds(
                buffers.queue_min[a:b],
                buffers.queue_max[a:b],
                buffers.order_pinned[a:b],
                buffers.limit_pinned[a:b],
                buffers.pool_min[pool],
                buffers.pool_max[pool],
                buffers.pool_pinned[pool],
            ),
            numbers,
            now_s,
            0.0,
            draft,
        )
        for queue in range(a, b):
            buffers.score[queue] = -buffers.place[queue]
        buffers.pool_limit[pool], buffers.pool_notes[pool] = verdict.pool_limit, verdict.notes
        if verdict.reordered:
            buffers.order_changed_s[pool] = now_s
        if verdict.resized:
            buffers.pool_changed_s[pool] = now_s


@compiled
def observe(buffers: DecisionBuffers, numbers: RuleNumbers) -> None:
    """Ask the base rule about the census, and write the features of both."""
    pools = buffers.pools.shape[0]
    width = buffers.queues.shape[0] // pools
    for pool in range(pools):
        a, b = pool * width, (pool + 1) * width
        table, figures = buffers.queues[a:b].T, buffers.pools[pool]
        score, limit, place = buffers.rule_score[a:b], buffers.rule_limit[a:b], buffers.rule_place[a:b]
        slots = propose_pool(table, figures, numbers, score, limit)
        buffers.rule_pool_limit[pool] = slots
        rank_pool(score, table, place, buffers.sequence[a:b])
        encode_pool(table, figures, place, limit, slots, buffers.queue_features[a:b], buffers.pool_features[pool])

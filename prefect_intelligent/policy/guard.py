"""The guard: turns the settings that a policy wants into permitted ones.

One function for the twin's batched environment and for the live controller; its steps, for one pool, are in
`guard_steps`. Where its rules conflict, the earlier one of this list wins:

1. kill switch: nothing changes;
2. values that a person has set: pinned fields, soft pauses (limit 0) and paused queues;
3. no limit below what is running (a limit that already is below is not lowered further);
4. bounds per queue and pool;
5. starvation: a queue whose head has waited longer than W goes to the front with a limit of at least one more run,
   and the pool does not shrink below room for it;
6. work conservation: no slot stays idle while a run waits that could start under the limits set by people and the
   capacity of shared resources, except for a bounded number kept for runs that are scheduled very soon;
7. one change per value and interval, hysteresis, largest step;
8. the proposal; the fallback if the proposal is invalid or too old; the settings in force if both are.

Rules 1 to 6 hold at every call, also inside an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.backend import Column, Numbers, Values, columns, rows, run_batch
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard_state import Bounds, GuardNumbers, GuardSettings, GuardState
from prefect_intelligent.policy.guard_steps import Draft, GuardMemory, RequestedSettings, permit_pool

Notes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Permitted:
    """The settings that may be applied.

    Attributes:
        proposal: The permitted settings; the score is minus the place in the order.
        queue_notes: `Note` flags per queue, shape (..., n_queues).
        pool_notes: `Note` flags per pool, shape (...,).
        state: The state for the next call.
    """

    proposal: Proposal
    queue_notes: Notes
    pool_notes: Notes
    state: GuardState


def permit(
    proposal: Proposal,
    census: Census,
    state: GuardState,
    settings: GuardSettings,
    *,
    now_s: Array | float,
    age_s: Array | float = 0.0,
    fallback: Proposal | None = None,
) -> Permitted:
    """The permitted form of `proposal`.

    Args:
        proposal: The policy's proposal.
        census: The pool or batch of pools as it is now.
        state: From the previous call, or `GuardState.start(census)`.
        settings: What is permitted.
        now_s: The instant, per pool.
        age_s: Age of the proposal, seconds, per pool.
        fallback: The base rule's proposal; None keeps the settings in force.
    """
    shape = census.queues.shape[:-1]
    after = state.copy()
    pool_limit, pool_notes = np.empty(shape[:-1]), np.zeros(shape[:-1], dtype=np.int64)
    draft = blank_draft(int(np.prod(shape[:-1])), shape[-1])
    run_batch(
        permit_pools,
        rows(census.queues, census.queues.shape, 2),
        rows(census.pool, census.pool.shape, 1),
        requested_settings(proposal, shape),
        requested_settings(proposal if fallback is None else fallback, shape),
        fallback is not None,
        settings.bounds(shape),
        settings.numbers(),
        rows(now_s, shape[:-1], 0),
        rows(age_s, shape[:-1], 0),
        into=(*guard_memory(after, shape), *draft, rows(pool_limit, shape[:-1], 0), pool_notes.reshape(-1)),
    )
    place, limit, queue_notes = (np.asarray(part).reshape(shape) for part in draft[:3])
    return Permitted(Proposal(-place, limit, pool_limit), queue_notes, pool_notes, after)


def requested_settings(proposal: Proposal, shape: tuple[int, ...]) -> RequestedSettings:
    """A proposal for a batch of shape (..., n_queues) as `RequestedSettings` whose columns have one row per pool."""
    per_pool = rows(proposal.pool_limit, shape[:-1], 0)
    return RequestedSettings._make([rows(proposal.score, shape, 1), rows(proposal.limit, shape, 1), per_pool])


def guard_memory(state: GuardState, shape: tuple[int, ...]) -> GuardMemory:
    """A guard's state for such a batch as a `GuardMemory` that writes to it."""
    per_queue = [rows(column, shape, 1) for column in (state.own_limit, state.limit_changed_s)]
    return GuardMemory._make(
        [*per_queue, *(rows(c, shape[:-1], 0) for c in (state.order_changed_s, state.pool_changed_s))]
    )


def blank_draft(pools: int, queues: int) -> Draft:
    """Empty arrays for the guard's answer to a batch of pools."""
    whole = ("notes", "sequence", "scratch")
    return Draft._make(np.zeros((pools, queues), dtype=np.int64 if name in whole else float) for name in Draft._fields)


def permit_pools(
    queues: Sequence[Sequence[Column]],
    figures: Sequence[Column],
    wanted: Any,
    fallback: Any,
    has_fallback: bool,
    bounds: Any,
    numbers: GuardNumbers,
    now_s: Column,
    age_s: Column,
    own_limits: Sequence[Column],
    limits_changed_s: Sequence[Values],
    orders_changed_s: Values,
    pools_changed_s: Values,
    places: Sequence[Values],
    limits: Sequence[Values],
    notes: Sequence[Numbers],
    kept: Sequence[Values],
    sequences: Sequence[Numbers],
    scratches: Sequence[Numbers],
    starts: Sequence[Values],
    unmet: Sequence[Values],
    pool_limits: Values,
    pool_notes: Numbers,
) -> None:
    """`permit_pool` for every pool of a batch."""
    for row in range(len(queues)):
        outcome = permit_pool(
            columns(queues[row]),
            figures[row],
            RequestedSettings(wanted.score[row], wanted.limit[row], wanted.pool_limit[row]),
            RequestedSettings(fallback.score[row], fallback.limit[row], fallback.pool_limit[row]),
            has_fallback,
            GuardMemory(own_limits[row], limits_changed_s[row], orders_changed_s[row], pools_changed_s[row]),
            Bounds(
                bounds.queue_min[row],
                bounds.queue_max[row],
                bounds.order_pinned[row],
                bounds.limit_pinned[row],
                bounds.pool_min[row],
                bounds.pool_max[row],
                bounds.pool_pinned[row],
            ),
            numbers,
            now_s[row],
            age_s[row],
            Draft(
                places[row],
                limits[row],
                notes[row],
                kept[row],
                sequences[row],
                scratches[row],
                starts[row],
                unmet[row],
            ),
        )
        pool_limits[row], pool_notes[row] = outcome.pool_limit, outcome.notes
        if outcome.reordered:
            orders_changed_s[row] = now_s[row]
        if outcome.resized:
            pools_changed_s[row] = now_s[row]

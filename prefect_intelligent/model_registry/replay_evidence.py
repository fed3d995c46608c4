"""Evidence for the promotion gate from the pool's own history: a bundle against its tuned rule, on the same runs."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.model_registry.promotion import GateEvidence
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.replay.replay import history_world
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec

BLOCK_S: Final = 3600.0
"""Least length of the pieces of history that are drawn anew for the interval; within one all hangs together."""
MOST_BLOCKS: Final = 240
PARTS: Final = 6
"""Pieces of the history none of which may become much dearer."""
_DRAWS: Final = 4000
_LEAST_SHARE: Final = 0.01
"""A part that costs less than this share of the mean part counts as costing so much."""
_LONGEST_S: Final = 30 * 86400.0


def evaluate_on_history(
    runs: pd.DataFrame,
    pool: PoolSpec,
    policy: Policy,
    rule: Policy,
    *,
    guard: GuardSettings,
    interval_s: float,
    weights_sha256: str,
    source: str,
    seed: int = 0,
) -> GateEvidence:
    """Replay a history under a policy and under the rule that it must beat.

    Args:
        runs: Table of `history.runs_frame`.
        pool: The pool as it is set today, with its prices.
        policy: What wants to become champion.
        rule: What it is compared with, the tuned rule that it corrects.
        guard: What is permitted to either.
        interval_s: Seconds between decisions.
        weights_sha256: Which weights the policy has.
        source: Where the history comes from, for the record.
        seed: Of polls, start-up times and bootstrap.

    Raises:
        InvalidInputError: There is nothing to replay, or it costs nothing.
    """
    world = history_world(runs, pool, seed=seed)
    ours, violations = _spent(ClosedLoop(Twin(world), guard, interval_s, audit=True), policy)
    theirs, _ = _spent(ClosedLoop(Twin(world), guard, interval_s, audit=True), rule)
    begin_s, end_s = float(ours[0][0]), float(max(ours[0][-1], theirs[0][-1]))
    count = int(np.clip((end_s - begin_s) // BLOCK_S, 1, MOST_BLOCKS))
    blocks = [_pieces(spent, begin_s, end_s, count) for spent in (ours, theirs)]
    if blocks[1].sum() <= 0:
        raise InvalidInputError("history", "0 US dollars", "costs nothing under the rule; set prices for its pool")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, count, (_DRAWS, count))
    ratios = blocks[0][drawn].sum(1) / np.maximum(blocks[1][drawn].sum(1), 1e-9)
    parts = [_pieces(spent, begin_s, end_s, min(PARTS, count)) for spent in (ours, theirs)]
    least = _LEAST_SHARE * parts[1].mean()
    return GateEvidence(
        weights_sha256=weights_sha256,
        source=source,
        ratio=float(blocks[0].sum() / blocks[1].sum()),
        ratio_high=float(np.quantile(ratios, 0.975)),
        worst_ratio=float((np.maximum(parts[0], least) / np.maximum(parts[1], least)).max()),
        guard_violations=violations,
        episodes=int((blocks[1] > 0).sum()),
    )


def _spent(arena: ClosedLoop, policy: Policy) -> tuple[tuple[Array, Array], float]:
    """Instants and the money spent by then, of one world played to its end; and what broke the guard's promise."""
    twin = arena.twin
    at_s, usd = [float(twin.now_s[0])], [0.0]
    last_s = float(twin.world.runs["scheduled_s"].max()) + _LONGEST_S
    while arena.running[0] and twin.now_s[0] < last_s:
        arena.step(policy.propose(arena.census))
        at_s.append(float(twin.now_s[0]))
        usd.append(float(twin.money[0].sum()))
    return (np.array(at_s), np.array(usd)), float(arena.violations.sum())


def _pieces(spent: tuple[Array, Array], begin_s: float, end_s: float, count: int) -> Array:
    """Money spent in equal pieces of time."""
    pieces: Array = np.diff(np.interp(np.linspace(begin_s, end_s, count + 1), *spent))
    return pieces

"""Evidence for the promotion gate from the pool's own history: a bundle against its tuned rule, on the same runs."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.model_registry.promotion import GateEvidence
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.replay.bootstrap import bootstrap, cost_ratio
from prefect_intelligent.replay.replay import history_world
from prefect_intelligent.replay.spending import play
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec

BLOCK_S: Final = 3600.0
"""Least length of the blocks of history that the bootstrap draws; runs within a block are dependent."""
MOST_BLOCKS: Final = 240
PARTS: Final = 6
"""Pieces of the history none of which may become much dearer."""
_LEAST_SHARE: Final = 0.01
"""A part that costs less than this share of the mean part counts as costing so much."""


def evaluate_on_history(
    runs: pd.DataFrame,
    pool: PoolSpec,
    policy: Policy,
    rule: Policy,
    *,
    regime: Regime,
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
        regime: How often either decides, and what is permitted.
        weights_sha256: Which weights the policy has.
        source: Where the history comes from, for the record.
        seed: Of polls, start-up times and bootstrap.

    Raises:
        InvalidInputError: There is nothing to replay, or it costs nothing.
    """
    world = history_world(runs, pool, seed=seed)
    loop = ClosedLoop(Twin(world), regime, audit=True)
    ours = play(loop, policy)
    theirs = play(ClosedLoop(Twin(world), regime), rule)
    begin_s, end_s = float(ours.at_s[0]), float(max(ours.at_s[-1], theirs.at_s[-1]))
    count = int(np.clip((end_s - begin_s) // BLOCK_S, 1, MOST_BLOCKS))
    edges = np.linspace(begin_s, end_s, count + 1)
    blocks = [np.diff(curve.spent_by(edges)) for curve in (ours, theirs)]
    if blocks[1].sum() <= 0:
        raise InvalidInputError("history", "0 US dollars", "costs nothing under the rule; set prices for its pool")
    ratio = bootstrap(cost_ratio, blocks, np.random.default_rng(seed))
    edges = np.linspace(begin_s, end_s, min(PARTS, count) + 1)
    parts = [np.diff(curve.spent_by(edges)) for curve in (ours, theirs)]
    least = _LEAST_SHARE * parts[1].mean()
    return GateEvidence(
        weights_sha256=weights_sha256,
        source=source,
        ratio=ratio.value,
        ratio_high=ratio.high,
        worst_ratio=float((np.maximum(parts[0], least) / np.maximum(parts[1], least)).max()),
        guard_violations=float(loop.violations.sum()),
        episodes=int((blocks[1] > 0).sum()),
    )

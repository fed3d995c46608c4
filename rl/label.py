"""Label states with what corrections of the base rule would have saved, found by trying them in the twin.

    python -m rl.label --base runs/tuned.json --worlds 6400 --out runs/labels [--guide BUNDLE]

States are taken along days of many worlds. In each, some levels of the pool limit and some levels of single queues are
held for a few decisions, then the guide policy goes on. The label is the cost up to a horizon, compared with that of
the uncorrected rule.

The roll-outs use the world's own future, which the network does not see. Since worlds are drawn at random, regression
on such labels estimates the expected saving: the average over futures is taken by the fit (hindsight learning;
Sinclair et al., ICML 2023). A planner that samples four futures per state needs four times the roll-outs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.policy.actions import (
    CAPACITY_FACTORS,
    NEUTRAL_CAPACITY,
    NEUTRAL_PLACE,
    NEUTRAL_SHARE,
    PLACES,
    SHARES,
    Levels,
    apply_action,
)
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.bundle import read_bundle
from prefect_intelligent.policy.census import Array, Census, Q
from prefect_intelligent.policy.encoding import Array32, encode
from prefect_intelligent.policy.planner import remaining_lateness_usd, work_left_usd
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from rl.simulators import spent_usd
from rl.tune import read_rule
from rl.worlds import Workload, training

AnyArray = npt.NDArray[Any]

POOL, PLACE, SHARE = 0, 1, 2
"""The lever that a candidate moves."""
_QUIET_SHARE: Final = 0.3
"""Share of the states without waiting runs that are labelled."""
_BATCHES_SORTED: Final = 4
"""Batches of days that are drawn together and sorted by size: a batch needs as much memory as its largest day."""
DAY_HOURS: Final = 8.0
"""Hours that the cost of a day is divided by, to express savings in hours of mean cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """How labels are made.

    Attributes:
        every: Decisions between two labelled states of a world.
        hold: Decisions in a roll-out for which a candidate is held; the effect of a few minutes is small against the
            noise.
        horizon: Decisions that are rolled out in all; where runs wait for other runs, `whole_day` instead.
        pool_candidates: Levels of the pool that are tried per state. Few, because candidates of a state share their
            future: the same number of roll-outs tells more when it is spent on more states.
        queue_candidates: Candidates per state that move a single queue.
        explore: Chance per labelled state that the day goes on under a random candidate instead of the guide.
        most_steps: Decisions after which a day is abandoned; a few days last very long.
        step_s: Seconds between two decisions of a roll-out.
        whole_day: Decisions of a roll-out that reaches the end of the day.
    """

    every: int = 40
    hold: int = 18
    horizon: int = 70
    pool_candidates: int = 3
    queue_candidates: int = 1
    explore: float = 0.3
    most_steps: int = 600
    step_s: float = 120.0
    whole_day: int = 300


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled states: m states, n queues, k candidates.

    Attributes:
        queues: Shape (m, n, features), float32.
        pool: Shape (m, features), float32.
        mask: Shape (m, n).
        lever: Shape (m, k): `POOL`, `PLACE` or `SHARE`.
        queue: Shape (m, k): which queue; 0 for the pool.
        level: Shape (m, k): which level.
        saved: Shape (m, k): cost of the rule minus cost of the candidate, in hours of the world's mean cost under the
            rule, so that savings are relative.
    """

    queues: Array32
    pool: Array32
    mask: AnyArray
    lever: AnyArray
    queue: AnyArray
    level: AnyArray
    saved: Array32

    def save(self, path: str) -> None:
        """Write to an .npz file."""
        np.savez_compressed(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, *paths: str) -> Labels:
        """Read and join files, padded to the largest number of queues."""
        parts = [dict(np.load(path)) for path in paths]
        widest = max(part["mask"].shape[1] for part in parts)
        for part in parts:
            for name in ("queues", "mask"):
                extra = widest - part[name].shape[1]
                part[name] = np.pad(part[name], [(0, 0), (0, extra), *([(0, 0)] * (part[name].ndim - 2))])
        return cls(**{name: np.concatenate([part[name] for part in parts]) for name in cls.__slots__})


_POOL_LEVELS: Final = [level for level in range(len(CAPACITY_FACTORS)) if level != NEUTRAL_CAPACITY]


def label(
    world: World, base: RulePolicy, guide: Policy, regime: Regime, config: LabelConfig, rng: np.random.Generator
) -> Labels:
    """Labelled states from one pass through a batch of worlds.

    Args:
        world: The worlds.
        base: The rule that the network corrects.
        guide: Policy that decides along the days and after a candidate was held: the rule, or an earlier network.
        regime: How policies are run.
        config: How labels are made.
        rng: Chooses queue candidates and explorations.
    """
    hourly_usd = mean_hourly_usd(world, base, regime)
    loop = ClosedLoop(Twin(world), regime)
    found: list[tuple[AnyArray, ...]] = []
    held: Levels | None = None
    phase = int(rng.integers(config.every))
    for step in range(config.most_steps):
        if not loop.running.any():
            break
        now = step % config.every == phase
        due = np.flatnonzero(loop.running & now & _selected(loop.census, rng))
        if due.size:
            found.append(_label(loop, due, hourly_usd[due], base, guide, config, rng))
        if now:
            held = _exploration(loop.census, config, rng)
        wanted = guide.propose(loop.census)
        if held is not None:
            rule = base.propose(loop.census)
            tried = apply_action(rule, loop.census, held)
            explores = held.capacity != NEUTRAL_CAPACITY
            wanted = Proposal(
                np.where(explores[:, None], tried.score, wanted.score),
                np.where(explores[:, None], tried.limit, wanted.limit),
                np.where(explores, tried.pool_limit, wanted.pool_limit),
            )
        loop.step(wanted)
    return Labels(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _selected(census: Census, rng: np.random.Generator) -> AnyArray:
    """Marks the states to label: those with waiting runs, and some others, where slots can be bought ahead or kept."""
    waiting: AnyArray = census[Q.WAITING].sum(-1) > 0
    return waiting | (rng.random(waiting.shape) < _QUIET_SHARE)


def mean_hourly_usd(world: World, base: Policy, regime: Regime) -> Array:
    """Cost of each world's day under `base` over `DAY_HOURS`, shape (worlds,), US dollars per hour."""
    total = spent_usd(world, regime, base)[0].sum(-1)
    mean: Array = np.maximum(total, 1e-6) / DAY_HOURS
    return mean


def _exploration(census: Census, config: LabelConfig, rng: np.random.Generator) -> Levels:
    """Random levels for some of the worlds; the others, with neutral capacity, go on under the guide."""
    shape = census.queues.shape[:-1]
    random = rng.choice(_POOL_LEVELS, shape[0])
    return Levels(
        np.where(rng.random(shape[0]) < config.explore, random, NEUTRAL_CAPACITY),
        np.where(rng.random(shape) < 0.2, rng.integers(0, len(PLACES), shape), NEUTRAL_PLACE),
        np.where(rng.random(shape) < 0.2, rng.integers(0, len(SHARES), shape), NEUTRAL_SHARE),
    )


def _label(
    loop: ClosedLoop,
    rows: AnyArray,
    hourly_usd: Array,
    base: RulePolicy,
    guide: Policy,
    config: LabelConfig,
    rng: np.random.Generator,
) -> tuple[AnyArray, ...]:
    """One labelled state for each of the worlds `rows`."""
    census = Census(loop.census.queues[rows], loop.census.pool[rows])
    rule = base.propose(census)
    seen = encode(census, rule)
    lever, queue, level = _candidates(census, config, rng)
    m, k = lever.shape
    levels = _levels(loop, lever, queue, level)
    cost = np.empty((m, 1 + k))
    # Runs that wait for another run are in no census, so their cost shows only at the end of the day.
    chained = (loop.twin.world.runs["upstreams"][rows] > 0).any(-1)
    for part, horizon in ((~chained, config.horizon), (chained, config.whole_day)):
        if part.any():
            tried = Levels(*(level[part] for level in levels))
            cost[part] = candidate_costs_usd(loop, rows[part], tried, base, guide, config, horizon)
    saved = (cost[:, :1] - cost[:, 1:]) / hourly_usd[:, None]
    return seen.queues, seen.pool, seen.mask, lever, queue, level, saved.reshape(m, k).astype(np.float32)


def candidate_costs_usd(
    loop: ClosedLoop,
    rows: AnyArray,
    levels: Levels,
    base: RulePolicy,
    continuation: Policy,
    config: LabelConfig,
    steps: int,
) -> Array:
    """What corrections cost in the true future up to a horizon, and for what is left undone, shape (m, k), US dollars.

    Args:
        loop: The worlds; they are not touched.
        rows: Which of them, shape (m,).
        levels: k corrections for each, shapes (m, k) and (m, k, n_queues).
        base: The rule that is corrected.
        continuation: What decides after a correction was held.
        config: For how many decisions a correction is held, and how long they take.
        steps: Decisions in all.
    """
    m, k = levels.capacity.shape
    n = levels.place.shape[-1]
    chosen = Levels(levels.capacity.reshape(-1), levels.place.reshape(-1, n), levels.share.reshape(-1, n))
    fork = loop.fork(np.repeat(rows, k), config.step_s)
    before = fork.spent_usd
    for step in range(steps):
        if step < config.hold:
            fork.step(apply_action(base.propose(fork.census), fork.census, chosen))
        else:
            fork.step(continuation.propose(fork.census))
    left_usd = remaining_lateness_usd(fork.census) + work_left_usd(fork.census)
    cost: Array = fork.spent_usd - before + left_usd
    return cost.reshape(m, k)


def _candidates(census: Census, config: LabelConfig, rng: np.random.Generator) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Lever, queue and level of every candidate, each of shape (m, k)."""
    m = census.queues.shape[0]
    busy = (census[Q.WAITING] + 0.2 * (census[Q.UPCOMING] > 0)) * census.present + 1e-6 * census.present
    probability = np.sqrt(busy) / np.sqrt(busy).sum(-1, keepdims=True)
    k = config.queue_candidates
    queue = (
        np.stack([rng.choice(probability.shape[1], k, p=row) for row in probability]) if m else np.zeros((0, k), int)
    )
    lever = rng.choice([PLACE, SHARE], (m, k))
    places = rng.choice([i for i in range(len(PLACES)) if i != NEUTRAL_PLACE], (m, k))
    shares = rng.choice([i for i in range(len(SHARES)) if i != NEUTRAL_SHARE], (m, k))
    pool = np.full((m, config.pool_candidates), POOL)
    tried = rng.permuted(np.tile(_POOL_LEVELS, (m, 1)), axis=1)[:, : config.pool_candidates]
    return (
        np.concatenate([pool, lever], axis=1),
        np.concatenate([np.zeros_like(pool), queue], axis=1),
        np.concatenate([tried, np.where(lever == PLACE, places, shares)], axis=1),
    )


def _levels(loop: ClosedLoop, lever: AnyArray, queue: AnyArray, level: AnyArray) -> Levels:
    """The candidates as levels of shape (m, 1 + k, ...); the first is neutral."""
    m, k = lever.shape
    n = loop.census.queues.shape[-2]
    capacity = np.full((m, 1 + k), NEUTRAL_CAPACITY)
    place = np.full((m, 1 + k, n), NEUTRAL_PLACE)
    share = np.full((m, 1 + k, n), NEUTRAL_SHARE)
    capacity[:, 1:] = np.where(lever == POOL, level, NEUTRAL_CAPACITY)
    for levels, kind in ((place, PLACE), (share, SHARE)):
        i, j = np.nonzero(lever == kind)
        levels[i, 1 + j, queue[i, j]] = level[i, j]
    return Levels(capacity, place, share)


def _batches(workload: Workload, first: int, worlds: int, size: int) -> Iterator[tuple[int, World]]:
    """Number and days of each batch; batches hold days of similar size."""
    for start in range(first, first + worlds, _BATCHES_SORTED * size):
        clusters = range(start, min(start + _BATCHES_SORTED * size, first + worlds))
        days = sorted((workload.world(cluster, 0) for cluster in clusters), key=lambda day: day.runs.shape[1])
        for place in range(0, len(days), size):
            yield start + place, stack(days[place : place + size])


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.label`."""
    parser = argparse.ArgumentParser(prog="python -m rl.label", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="JSON file of rl.tune: the rule to be corrected")
    parser.add_argument("--guide", type=Path, help="bundle that decides along the days (default: the rule)")
    parser.add_argument("--worlds", type=int, default=6400, help="days to label (default: 6400)")
    parser.add_argument(
        "--first", type=int, default=0, help="first cluster; day 0 of cluster c is world c (default: 0)"
    )
    parser.add_argument("--batch", type=int, default=64, help="days at a time (default: 64)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz files")
    args = parser.parse_args(argv)
    try:
        base = read_rule(args.base)
        guide = base if args.guide is None else read_bundle(args.guide).policy()
        workload = training()
        args.out.mkdir(parents=True, exist_ok=True)
        for first, world in _batches(workload, args.first, args.worlds, args.batch):
            began = time.perf_counter()
            labels = label(world, base, guide, workload.regime, LabelConfig(), np.random.default_rng([first, 3]))
            labels.save(str(args.out / f"{first:06d}.npz"))
            spent = time.perf_counter() - began
            best = np.maximum(labels.saved.max(1), 0).mean()
            print(
                f"{first:6d} {len(labels.pool)} states in {spent:.0f} s, best candidate saves {best:.3f} h on average"
            )
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

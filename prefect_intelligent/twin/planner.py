"""Planning in the twin: try candidate corrections of a rule in copies of the present state, and take the best.

It labels states for the learned policy (`rl.label` tries candidates in the true future), and it is a reference: with
the true future it is the clairvoyant planner, the best that choosing among these candidates attains; with sampled
futures it knows no more than a controller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.actions import CAPACITY_FACTORS, NEUTRAL_CAPACITY, Levels, apply_action, neutral
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.state import COMPLETED, PENDING, RUNNING

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerConfig:
    """How a planner looks ahead.

    Attributes:
        every: Decisions for which a choice is kept.
        hold: Decisions for which a candidate is kept when it is tried.
        horizon: Decisions that are simulated in all.
        futures: Sampled futures per candidate; 0 is clairvoyant and takes the true one.
        margin: Share of the expected cost by which a candidate has to be better than the rule to be taken.
    """

    every: int = 3
    hold: int = 4
    horizon: int = 50
    futures: int = 8
    margin: float = 0.01


class Planner:
    """Decides for the worlds of a closed loop by trying every capacity level in copies of them.

    Args:
        base: The rule that is corrected, and that decides after a candidate.
        config: How it looks ahead.
        rng: Draws the futures.
        name: Short name for records.
        policy: A policy to improve on: its plan is then the candidate to beat, and it decides after every candidate.
    """

    def __init__(
        self,
        base: RulePolicy,
        config: PlannerConfig,
        rng: np.random.Generator,
        name: str,
        policy: Policy | None = None,
    ) -> None:
        self.base, self.config, self.rng, self.name, self.policy = base, config, rng, name, policy

    def play(self, loop: ClosedLoop, most_steps: int = 1200) -> Array:
        """Decide until every run is over, at most so many times; the US dollars spent, shape (worlds, 3)."""
        chosen = np.zeros(0, dtype=np.int64)
        for step in range(most_steps):
            if not loop.running.any():
                break
            if step % self.config.every == 0:
                chosen = self.choose(loop)
            loop.step(self.proposal(loop.census, chosen))
        loop.twin.finish()
        return loop.twin.money

    def choose(self, loop: ClosedLoop) -> npt.NDArray[np.int64]:
        """The candidate to keep next in every world: a capacity level, or the number after them for `policy`."""
        rows = np.flatnonzero(loop.running)
        standard = NEUTRAL_CAPACITY if self.policy is None else len(CAPACITY_FACTORS)
        chosen = np.full(len(loop.census.pool), standard)
        cost = self.costs(loop, rows)
        worth = cost[:, standard] - cost.min(1) > self.config.margin * np.abs(cost[:, standard])
        chosen[rows] = np.where(worth, cost.argmin(1), standard)
        return chosen

    def proposal(self, census: Census, chosen: npt.NDArray[np.int64]) -> Proposal:
        """The proposals of the chosen candidates, one per world."""
        levels = neutral(census)._replace(capacity=np.minimum(chosen, len(CAPACITY_FACTORS) - 1))
        wanted = apply_action(self.base.propose(census), census, levels)
        if self.policy is None:
            return wanted
        learned, own = self.policy.propose(census), chosen == len(CAPACITY_FACTORS)
        return Proposal(
            np.where(own[:, None], learned.score, wanted.score),
            np.where(own[:, None], learned.limit, wanted.limit),
            np.where(own, learned.pool_limit, wanted.pool_limit),
        )

    def costs(self, loop: ClosedLoop, rows: AnyArray) -> Array:
        """Expected cost of every candidate in the worlds `rows`, shape (rows, candidates)."""
        if self.config.futures == 0:
            return self._costs_in_one_future(loop, rows, None)
        seeds = self.rng.integers(2**62, size=self.config.futures)
        return np.asarray(np.mean([self._costs_in_one_future(loop, rows, int(seed)) for seed in seeds], axis=0))

    def _costs_in_one_future(self, loop: ClosedLoop, rows: AnyArray, future_seed: int | None) -> Array:
        """Costs of the candidates in one future, the true one if None."""
        count, n = len(CAPACITY_FACTORS), loop.census.queues.shape[-2]
        still = neutral(Census(loop.census.queues[:1], loop.census.pool[:1]))
        capacity = np.tile(np.arange(count), (len(rows), 1))
        shape = (len(rows), count, n)
        levels = Levels(capacity, np.broadcast_to(still.place, shape), np.broadcast_to(still.share, shape))
        continuation = self.base if self.policy is None else self.policy
        horizon = self.config.horizon
        cost = candidate_costs_usd(
            loop,
            rows,
            levels,
            self.base,
            continuation,
            hold=self.config.hold,
            horizon=horizon,
            future_seed=future_seed,
        )
        if self.policy is None:
            return cost
        one = Levels(*(part[:, :1] for part in levels))
        own = candidate_costs_usd(
            loop, rows, one, self.base, self.policy, hold=0, horizon=horizon, future_seed=future_seed
        )
        return np.concatenate([cost, own], axis=1)


def candidate_costs_usd(
    loop: ClosedLoop,
    rows: AnyArray,
    levels: Levels,
    base: RulePolicy,
    continuation: Policy,
    *,
    hold: int,
    horizon: int,
    future_seed: int | None = None,
) -> Array:
    """What each candidate costs up to the horizon, and for what it leaves undone, shape (m, k), US dollars.

    Args:
        loop: The worlds; they are not touched.
        rows: Which of them, shape (m,).
        levels: k candidates for each, shapes (m, k) and (m, k, n_queues).
        base: The rule that candidates correct.
        continuation: What decides after a candidate.
        hold: Decisions for which a candidate is kept.
        horizon: Decisions in all.
        future_seed: Seed of a sampled future, the same for all candidates of a world; None takes the true one.
    """
    m, k = levels.capacity.shape
    n = levels.place.shape[-1]
    chosen = Levels(levels.capacity.reshape(-1), levels.place.reshape(-1, n), levels.share.reshape(-1, n))
    fork = loop.fork(np.repeat(rows, k))
    if future_seed is not None:
        resample_unknowns(fork, k, np.random.default_rng(future_seed))
    before = fork.twin.money.sum(-1)
    for step in range(horizon):
        if step < hold:
            fork.step(apply_action(base.propose(fork.census), fork.census, chosen))
        else:
            fork.step(continuation.propose(fork.census))
    left_usd = remaining_lateness_usd(fork.census) + work_left_usd(fork.census)
    cost: Array = fork.twin.money.sum(-1) - before + left_usd
    return cost.reshape(m, k)


def resample_unknowns(loop: ClosedLoop, copies: int, rng: np.random.Generator) -> None:
    """Replace what a controller cannot know by draws from what it expects, alike in `copies` consecutive worlds.

    Durations of runs that have not begun are drawn from their estimates. Runs that are not yet known come at other
    times: all that are still to come are spread anew over the rest of the day, evenly, so that their number is right
    and their times are not.
    """
    twin = loop.twin
    groups = twin.n_worlds // copies
    runs, state = twin.world.runs, twin.state.runs
    count = runs.shape[1]
    begun = np.isin(state["phase"], (PENDING, RUNNING)) | (state["phase"] >= COMPLETED)
    noise = np.repeat(rng.standard_normal((groups, count)), copies, axis=0)
    drawn = np.maximum(runs["p50_s"] * np.exp(runs["spread"] * noise), 0.1)
    runs["work_s"] = np.where(begun, runs["work_s"], drawn)
    for group in range(groups):
        row = group * copies
        now_s = float(twin.now_s[row])
        used = int(twin.world.settings["arrivals"][row])
        ahead = twin.world.arrivals[row, int(twin.state.totals["next_arrival"][row]) : used]
        hidden = ahead[runs["known_s"][row, ahead] > now_s]
        if hidden.size == 0:
            continue
        last_s = float(runs["scheduled_s"][row, ahead].max())
        at_s = np.sort(rng.uniform(now_s, max(last_s, now_s + 1.0), hidden.size))
        shift = at_s - runs["scheduled_s"][row, hidden]
        for world in range(row, row + copies):
            for name in ("scheduled_s", "known_s", "due_s"):
                runs[name][world, hidden] += shift
            state["scheduled_s"][world, hidden] += shift
            state["due_s"][world, hidden] += shift
            order = np.argsort(runs["scheduled_s"][world, ahead], kind="stable")
            twin.world.arrivals[world, used - len(ahead) : used] = ahead[order]


def remaining_lateness_usd(census: Census) -> Array:
    """Fluid estimate of what lateness the waiting work will still cost, shape (...,), US dollars.

    Queues are served one after the other in the order in force; a queue's work is done when the slots have served
    what is in front of it, and no sooner than its shared resource has. Its runs end evenly over that span and are due
    when its first one is.
    """
    slots = np.maximum(np.minimum(census[P.LIMIT], 1e6), 1.0)[..., None, None]
    place, work = census[Q.RANK], census[Q.WAITING_WORK_S] * (census[Q.PAUSED] == 0)
    before = place[..., None, :] < place[..., :, None]
    resource = census[Q.RESOURCE]
    same = (resource[..., :, None] == resource[..., None, :]) & (resource[..., :, None] > 0)
    capacity = np.minimum(np.maximum(census[Q.RESOURCE_CAPACITY], 1e-3)[..., None], slots)
    ahead = before * work[..., None, :]
    starts = np.maximum((ahead / slots).sum(-1), (ahead * same / capacity).sum(-1))
    lasts = work / np.where(census[Q.RESOURCE] > 0, capacity[..., 0], slots[..., 0])
    due = np.clip(census[Q.DUE_IN_S], -1e6, 1e8)
    ends = starts + np.maximum(lasts, 1.0)
    overdue = np.maximum(ends - np.maximum(due, 0.0), 0.0) ** 2 - np.maximum(starts - np.maximum(due, 0.0), 0.0) ** 2
    late_s = np.where(work > 0, overdue / (2.0 * (ends - starts)), 0.0)
    weighted: Array = (late_s * census[Q.VALUE_USD_PER_HOUR]).sum(-1)
    return weighted / 3600.0 * census[P.LATENESS_WEIGHT]


def work_left_usd(census: Census) -> Array:
    """What the slots for waiting and active work will still cost, shape (...,), US dollars.

    Without it a candidate that serves less before the horizon would look cheaper for what it has put off.
    """
    left_s = (census[Q.WAITING_WORK_S] + census[Q.ACTIVE_LEFT_S]).sum(-1)
    cost: Array = left_s / 3600.0 * census[P.SLOT_USD_PER_HOUR]
    return cost

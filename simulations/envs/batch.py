"""Many worlds stepped as one: actions in, observations and rewards out. Gymnasium and SB3 get thin wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.encoding import Observation
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy, parse_policy
from prefect_intelligent.twin.batch import FINISH
from prefect_intelligent.twin.model.world import World, as_bytes
from prefect_intelligent.twin.simulator import Twin
from simulations.envs.deck import LEAST_USD, Deck, Source, draw_deck, find_source, start_loop
from simulations.family import SPLITS

Flags = npt.NDArray[np.bool_]
DEFAULT_BASE: Final = "atc+lookahead+share"
PER_CENT: Final = 100.0
"""Rewards are in per cent of the rule's cost of the day."""
MOST_SAVED: Final = -0.95
"""Least excess that is counted, so that its logarithm exists."""
_LONGEST_S: Final = 30 * 86400.0
"""A day that has not run out after so long ends as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How the worlds of a batch are made, what a step is, and what is rewarded.

    Attributes:
        scenario: A scenario's name or file; "family" draws another cluster for each seed; or a source of worlds, such
            as a `simulations.family.Family` with other bounds.
        split: Split of seeds: "train", "validation" or "test".
        deck: Number of worlds that are drawn ahead; they are played in turn.
        deck_seed: Chooses them from the split.
        regime: How often is decided, what the guard permits, and how far limits may go.
        guarded: Whether actions pass the guard, as in production.
        base: The rule that actions correct, or its name.
        hold: Decisions in each step: the rule is asked anew in each and corrected by the same action.
        reward: "saving" is minus the increment of log(1 + excess), where excess is what has been spent beyond the base
            rule by the same decision of the same world, over the rule's cost of that day; "cost" is minus our cost over
            the rule's cost of that day. Both in per cent.
        episode_share: Least and largest length of an episode as a share of the day; below 1 it is truncated.
        threads: Among how many threads the worlds are divided.
    """

    scenario: str | Path | Source = "family"
    split: str = "train"
    deck: int = 64
    deck_seed: int = 0
    regime: Regime = field(default_factory=Regime)
    guarded: bool = True
    base: str | RulePolicy = DEFAULT_BASE
    hold: int = 1
    reward: Literal["saving", "cost"] = "saving"
    episode_share: tuple[float, float] = (1.0, 1.0)
    threads: int = 1

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InvalidInputError("split", self.split, f"known: {', '.join(SPLITS)}")
        for name in ("deck", "hold", "threads"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, getattr(self, name), "must be 1 or more")
        if not 0 < self.episode_share[0] <= self.episode_share[1] <= 1:
            raise InvalidInputError("episode_share", self.episode_share, "needs 0 < least <= largest <= 1")
        if self.reward not in ("saving", "cost"):
            raise InvalidInputError("reward", self.reward, "must be 'saving' or 'cost'")


class Batch:
    """`n` worlds of a deck, controlled by actions and replaced when their episode ends.

    With several pools per world, `rows` is the number of pools of all worlds; observations and actions have one row
    per pool, rewards one per world.

    Args:
        n: Worlds at once.
        settings: How they are made.
        rng: Chooses the first world of a reset, and the length of each episode.

    Attributes:
        deck: The worlds that are played.
        twin: Those that are played now.
    """

    twin: Twin

    def __init__(self, n: int, settings: BatchSettings, rng: np.random.Generator) -> None:
        self.n, self.settings, self.rng = n, settings, rng
        self.base = parse_policy(settings.base) if isinstance(settings.base, str) else settings.base
        self._source = find_source(settings.scenario)
        self.deck: Deck = draw_deck(
            self._source,
            SPLITS[settings.split],
            count=settings.deck,
            deck_seed=settings.deck_seed,
            regime=settings.regime,
            hold=settings.hold,
            base=self.base,
            guarded=settings.guarded,
        )
        self._chosen, self._step, self._last = (np.zeros(n, dtype=np.int64) for _ in range(3))
        self._spent_usd, self._log_excess = np.zeros(n), np.zeros(n)
        self._next = 0
        self.reset()
        self.pools, self.width = self.twin.world.pools.shape[1], self.twin.world.width

    @property
    def rows(self) -> int:
        """Pools of all worlds together."""
        return int(self.n * self.pools)

    def reset(self, options: Mapping[str, Any] | None = None) -> Observation:
        """Begin other worlds in all rows and return their observations.

        Args:
            options: "first": number of the world of the deck that the first row plays, the other rows those after it;
                chosen at random if it is not given.

        Raises:
            InvalidInputError: It is not a whole number.
        """
        first = (options or {}).get("first")
        if first is None:
            first = int(self.rng.integers(len(self.deck.worlds)))
        if isinstance(first, bool) or not isinstance(first, int | np.integer):
            raise InvalidInputError("first", first, "must be the number of a world of the deck")
        self._next = int(first)
        self._begin(np.arange(self.n))
        return self.observe()

    def replace(self, worlds: Flags) -> Observation:
        """Begin the next worlds of the deck in some rows and return the observations of all."""
        rows = np.flatnonzero(worlds)
        if len(rows):
            self._begin(rows)
        return self.observe()

    def step(self, action: npt.NDArray[np.int64]) -> tuple[Array, Flags, Flags]:
        """Hold an action for `hold` decisions.

        Args:
            action: Levels, see `policy.actions`; of shape (rows, 1 + 2 * width), or with one row per world.

        Returns:
            Reward, terminated (the day is over, and its rest has run out without decisions) and truncated (the episode
            was to be shorter), each of shape (n,).
        """
        levels = np.asarray(action, dtype=np.int64).reshape(self.rows, -1)
        for _ in range(self.settings.hold):
            self._loop.act(levels)
        self._step += 1
        over = self._step >= self._last
        terminated = over & (self._last == self.deck.steps)
        if terminated.any():
            self._finish(np.flatnonzero(terminated))
        return self._reward(), terminated, over & ~terminated

    def observe(self) -> Observation:
        """Observation of every pool after its last decision; a view that the next step overwrites."""
        return self._loop.observation

    @property
    def cost_ratio(self) -> Array:
        """What has been spent so far over the rule's cost of the whole day, shape (n,)."""
        ratio: Array = np.maximum(self._spent_usd, LEAST_USD) / np.maximum(self.deck.total_usd[self._chosen], LEAST_USD)
        return ratio

    def _reward(self) -> Array:
        """The reward of the last step, shape (n,)."""
        spent_usd, total_usd = self._loop.spent_usd, self.deck.total_usd[self._chosen]
        before_usd, self._spent_usd = self._spent_usd, spent_usd
        scale_usd = np.maximum(total_usd, LEAST_USD)
        if self.settings.reward == "cost":
            return PER_CENT * (before_usd - spent_usd) / scale_usd
        rule_usd = self.deck.spent_usd[self._chosen, self._step]
        rule_usd = np.where(self.twin.done, total_usd, rule_usd)  # what is left to the rule is saved or lost already
        excess = np.maximum((spent_usd - rule_usd) / scale_usd, MOST_SAVED)
        before, self._log_excess = self._log_excess, np.log1p(excess)
        return PER_CENT * (before - self._log_excess)

    def _finish(self, rows: npt.NDArray[np.int64]) -> None:
        """Let some worlds run out without decisions."""
        self.twin.buffers.until_s[rows] = self.twin.now_s[rows] + _LONGEST_S
        self.twin.run_phases(FINISH, worlds=rows)

    def _begin(self, rows: npt.NDArray[np.int64]) -> None:
        """Deal the next worlds of the deck to some rows."""
        dealt, numbers = self.deck.deal(self._next, len(rows))
        self._next = (self._next + len(rows)) % len(self.deck.worlds)
        if len(rows) == self.n:  # a twin of its own costs less than copying
            self.twin = Twin(World(*(table[: self.n] for table in dealt)), threads=self.settings.threads)
            self._loop = start_loop(
                self.twin, self._source, self.settings.regime, self.base, guarded=self.settings.guarded
            )
        else:
            for table, new in zip(self.twin.world, dealt, strict=True):
                as_bytes(table)[rows] = as_bytes(new[: len(rows)])
            self.twin.begin(rows)
            self._loop.restart(rows)
        low, high = (max(1, round(share * self.deck.steps)) for share in self.settings.episode_share)
        self._last[rows] = self.rng.integers(low, high + 1, len(rows))
        self._chosen[rows], self._step[rows] = numbers, 0
        self._spent_usd[rows] = self._log_excess[rows] = 0.0

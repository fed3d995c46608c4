"""Many worlds stepped as one: actions in, observations and rewards out. Gymnasium and SB3 get thin wrappers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Observation
from prefect_intelligent.policy.rule_policy import RulePolicy, parse_policy
from prefect_intelligent.twin.model.world import World, as_bytes
from prefect_intelligent.twin.simulator import Twin
from simulations.envs.deck import Deck, draw_deck
from simulations.family import SPLITS, Family
from simulations.play import BudgetedLoop
from simulations.regime import scenario_guard
from simulations.scenario import load_scenario
from simulations.workload import draw_world

Flags = npt.NDArray[np.bool_]
DEFAULT_BASE: Final = "atc+lookahead+share"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How the worlds of a batch are made, and what is rewarded.

    Attributes:
        scenario: A scenario's name or file; "family" draws another cluster for each seed.
        family: Bounds of the family; only for "family".
        split: Split of seeds: "train", "validation" or "test".
        deck: Number of worlds that are drawn ahead; every episode plays one of them.
        base: Name of the rule that actions correct.
        reward: "advantage" is the cost of the base rule in the same interval of the same world minus our cost; "cost"
            is minus our cost. Both in units of the rule's mean cost per decision in that world.
        guarded: Whether actions pass the guard, as in production.
        episode_share: Least and largest length of an episode as a share of the scenario's hours; lengths differ so that
            worlds do not stay in lockstep.
        threads: Among how many threads the worlds are divided.
    """

    scenario: str = "family"
    family: Family | None = None
    split: str = "train"
    deck: int = 64
    base: str = DEFAULT_BASE
    reward: Literal["advantage", "cost"] = "advantage"
    guarded: bool = True
    episode_share: tuple[float, float] = (0.5, 1.0)
    threads: int = 1

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InvalidInputError("split", self.split, f"known: {', '.join(SPLITS)}")
        if not 1 <= self.deck <= len(SPLITS[self.split]):
            raise InvalidInputError("deck", self.deck, "must be 1 or more, and no more than the split has seeds")
        if not 0 < self.episode_share[0] <= self.episode_share[1] <= 1:
            raise InvalidInputError("episode_share", self.episode_share, "needs 0 < least <= largest <= 1")
        if self.reward not in ("advantage", "cost"):
            raise InvalidInputError("reward", self.reward, "must be 'advantage' or 'cost'")


class Batch:
    """`n` worlds of a deck, controlled by actions and replaced when their episode ends.

    With several pools per world, `rows` is the number of pools of all worlds; observations and actions have one row
    per pool, rewards one per world.

    Args:
        n: Worlds at once.
        settings: How they are made.
        rng: Chooses the world and the length of each episode.
    """

    def __init__(self, n: int, settings: BatchSettings, rng: np.random.Generator) -> None:
        self.n, self.settings, self.rng = n, settings, rng
        self.base: RulePolicy = parse_policy(settings.base)
        self._draw_deck()
        pick = rng.integers(0, settings.deck, n)
        self._chosen = pick
        self.twin = Twin(World(*(table[pick] for table in self.deck.world)), threads=settings.threads)
        self.pools = self.twin.world.pools.shape[1]
        self.width = self.twin.world.width
        self._steps = np.zeros(n, dtype=np.int64)
        self._last = np.zeros(n, dtype=np.int64)
        self._start_s = self.twin.now_s.copy()
        self._usd = np.zeros(n)
        self._scale_usd = self.deck.scale_usd[pick]
        self.loop = BudgetedLoop(self.twin, self._guard, self._decision_s, self._budget, self.base)

    @property
    def rows(self) -> int:
        """Pools of all worlds together."""
        return int(self.n * self.pools)

    @property
    def levels(self) -> npt.NDArray[np.int64]:
        """Number of levels of each part of one pool's action: capacity, then place and share of every queue."""
        return np.array([len(CAPACITY_FACTORS), *[len(PLACES)] * self.width, *[len(SHARES)] * self.width])

    @property
    def features(self) -> tuple[int, int]:
        """Features per queue and per pool."""
        return len(QUEUE_FEATURES), len(POOL_FEATURES)

    def reset(self, worlds: Flags | None = None) -> Observation:
        """Begin other worlds (in all rows, or where `worlds` is set) and return the observations of all."""
        chosen = np.ones(self.n, dtype=bool) if worlds is None else worlds
        self._replace(chosen)
        return self.observe()

    def step(self, action: npt.NDArray[np.int64]) -> tuple[Array, Flags, Flags]:
        """One decision interval.

        Args:
            action: Shape (rows, 1 + 2 * width): levels, see `policy.actions`.

        Returns:
            Reward, terminated (every run is over) and truncated (the time of the episode is over), each of shape (n,).
        """
        self._steps += 1
        self.loop.act(action, self._start_s + self._steps * self._decision_s)
        usd = self.twin.buffers.usd.sum(axis=1)
        spent, self._usd = usd - self._usd, usd
        if self.settings.reward == "advantage":
            base_usd = self.deck.base_usd
            now = np.minimum(self._steps, base_usd.shape[1] - 1)
            spent -= base_usd[self._chosen, now] - base_usd[self._chosen, now - 1]
        terminated = self.twin.done
        truncated = ~terminated & (self._steps >= self._last)
        return -spent / self._scale_usd, terminated, truncated

    def observe(self) -> Observation:
        """Observation of every pool; a view that the next step overwrites."""
        return self.loop.observation

    def _draw_deck(self) -> None:
        settings = self.settings
        seeds = SPLITS[settings.split][: settings.deck]
        if settings.scenario == "family":
            family = settings.family or Family()
            example = family.scenario(seeds[0])
            worlds = [family.world(seed) for seed in seeds]
        else:
            example = load_scenario(settings.scenario)
            worlds = [draw_world(example, seed) for seed in seeds]
        self._decision_s, self._budget = example.decision_s, example.budget_slots
        self._guard = scenario_guard(example.decision_s) if settings.guarded else None
        self.deck: Deck = draw_deck(
            worlds,
            seeds,
            hours=example.hours,
            base=self.base,
            decision_s=example.decision_s,
            guard=self._guard,
            budget_slots=example.budget_slots,
        )

    def _replace(self, worlds: Flags) -> None:
        """Put other worlds of the deck into some rows and begin them."""
        rows = np.flatnonzero(worlds)
        if len(rows) == 0:
            return
        picked = self.rng.integers(0, self.settings.deck, len(rows))
        for table, drawn in zip(self.twin.world, self.deck.world, strict=True):
            as_bytes(table)[rows] = as_bytes(drawn)[picked]
        self._chosen[rows] = picked
        self.twin.begin(rows)
        self._start_s[rows] = self.twin.now_s[rows]
        self._steps[rows], self._usd[rows] = 0, 0.0
        longest = self.deck.base_usd.shape[1] - 1
        low, high = (max(1, round(share * longest)) for share in self.settings.episode_share)
        self._last[rows] = self.rng.integers(low, high + 1, len(rows))
        self._scale_usd[rows] = self.deck.scale_usd[picked]
        self.loop.restart(rows)

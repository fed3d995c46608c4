"""The simulated days on which policies are tuned, trained and validated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from rl.batch_logs import BatchLogs
from simulations.arrivals import HOUR_S
from simulations.family import Family
from simulations.scenario import FOLDER, load_scenario
from simulations.workload import Scenario, draw_world

FRESH_DAY: Final = 1000
"""Day numbers from this one on are never trained on."""
_NOT_TRAINED: Final = ("toy",)
"""Scenarios too small to learn anything from."""
_SCENARIO_SEEDS: Final = 10**12
"""Offset of the seeds of training days of scenarios, beyond all seeds of the suites."""
TRAINING: Final = Regime(interval_s=60.0, pool_factor=math.inf)
"""A controller's guard and a decision a minute: the ratios are those of one every 20 s, in a third of the time."""


class Days(Protocol):
    """Where the days of tuning, training and validation come from."""

    @property
    def hours(self) -> float:
        """Length of the time in which runs arrive."""

    @property
    def regime(self) -> Regime:
        """How policies are run on these days."""

    def world(self, cluster: int, day: int, /) -> World:
        """One day of one cluster."""

    def batch(self, days: list[tuple[int, int]], /) -> World:
        """Several days as one batch; each is (cluster, day)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Days of a family of clusters, of scenarios, like batch logs, or a mixture, at random prices of lateness.

    Attributes:
        family: Bounds of the clusters.
        dial: Range of the lateness weight, drawn log-uniformly per day; None keeps that of the prices.
        scenarios: Scenarios that are mixed in.
        share: Share of the days that are of a scenario instead of the family.
        logs: Bounds of the days like batch logs that are mixed in; None for none.
        logs_share: Share of the days that are of that kind.
        regime: How policies are run on these days.
        factors: Each day has a bound on its pool limit, so many times the given one, drawn from these; none if empty.
    """

    family: Family = field(default_factory=lambda: Family(hours=8.0))
    dial: tuple[float, float] | None = (0.1, 3.0)
    scenarios: tuple[Scenario, ...] = ()
    share: float = 0.5
    logs: BatchLogs | None = None
    logs_share: float = 0.4
    regime: Regime = TRAINING
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dial is not None and not 0 < self.dial[0] <= self.dial[1]:
            raise InvalidInputError("dial", self.dial, "needs 0 < least <= largest")
        for name in ("share", "logs_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(name, getattr(self, name), "must be between 0 and 1")
        for scenario in self.scenarios:
            if len(scenario.pools) != 1:
                raise InvalidInputError(
                    f"scenario {scenario.name!r}",
                    f"{len(scenario.pools)} pools",
                    "training takes scenarios of one pool",
                )

    @classmethod
    def of(cls, *scenarios: Scenario, regime: Regime | None = None) -> Workload:
        """Only days of these scenarios, at their own prices: what a policy is fitted to.

        Args:
            scenarios: Of one pool each.
            regime: How policies are run there; a controller's default, but with a decision a minute, if None.
        """
        return cls(dial=None, scenarios=scenarios, share=1.0, regime=regime or replace(TRAINING, pool_factor=1.0))

    @property
    def hours(self) -> float:
        """Length of a day: that of the family, or of the longest scenario where there are only scenarios."""
        if self.scenarios and self.share == 1.0:
            return max(scenario.hours for scenario in self.scenarios)
        return self.family.hours

    def world(self, cluster: int, day: int) -> World:
        """One day of one cluster."""
        rng = np.random.default_rng([cluster, day, 13])
        if self.scenarios and rng.uniform() < self.share:
            scenario = self.scenarios[int(rng.integers(len(self.scenarios)))]
            seed = _SCENARIO_SEEDS + cluster * 1009 + day
            world = draw_world(self._window(scenario, float(rng.uniform())), seed)
        elif self.logs is not None and rng.uniform() < self.logs_share:
            world = self.logs.world(cluster, day)
        else:
            world = self.family.world(cluster, day)
        if self.dial is not None:
            low, high = np.log(self.dial)
            drawn = np.random.default_rng([cluster, day, 11]).uniform(low, high)
            world.settings["lateness_weight"] = np.exp(drawn)
        if self.factors:
            factor = np.random.default_rng([cluster, day, 17]).choice(self.factors)
            world.pools["most"] = np.maximum(factor * world.pools["limit"], 1.0)
        return world

    def batch(self, days: list[tuple[int, int]]) -> World:
        """Several days as one batch; each is (cluster, day)."""
        return stack([self.world(cluster, day) for cluster, day in days])

    def _window(self, scenario: Scenario, phase: float) -> Scenario:
        """A part of a scenario as long as a day; `phase` (0 to 1) says where it begins, in whole hours."""
        spare = max(0.0, scenario.hours - self.hours)
        begin_s = scenario.start_s + math.floor(phase * spare) * HOUR_S
        return replace(scenario, start_s=begin_s, hours=min(scenario.hours, self.hours))


def training() -> Workload:
    """The workload of tuning and training: a wide family, days of scenarios, days like batch logs, at mixed bounds."""
    scenarios = [load_scenario(path.stem) for path in sorted(FOLDER.glob("*.toml")) if path.stem not in _NOT_TRAINED]
    return Workload(
        family=Family(hours=8.0, queues=(2, 12), load=(0.15, 1.3)),
        scenarios=tuple(scenario for scenario in scenarios if len(scenario.pools) == 1),
        share=0.25,
        logs=BatchLogs(),
        factors=(1.0, 1.0, 2.0, 4.0),
    )

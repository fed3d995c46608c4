"""The days of one pool, split into those to learn on, to choose by, and to be judged on.

A pool is a scenario (a name or a TOML file, for example of `simulations.calibrate`), a cluster of the randomised family
(`family:SEED`), or a recorded workload in a pool of some size (`trace:NAME`, a trace case of `rl.suites`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from rl.suites import TRACE_FOLDER, Case, trace_cases
from rl.worlds import TRAINING
from simulations.family import SPLITS, Family
from simulations.scenario import to_train_on
from simulations.workload import draw_world

POOLS: Final = (
    "morning-rush",
    "nightly-dag",
    "warehouse-contention",
    "bursty-adhoc",
    "slow-autoscaling",
    "family:2000000",
    "family:2000001",
    "family:2000002",
    "family:2000003",
    "trace:surf-large-0.95",
    "trace:philly-large-0.95",
    "trace:kth-small-0.95",
    "trace:wagap-small-0.95",
)
"""The pools of the suite `pools`, chosen before any was tried: scenarios with something to decide, the first clusters
of the test split, and every recorded workload at load 0.95."""
AS_GIVEN: Final = replace(TRAINING, pool_factor=1.0)
"""A controller's default, with a decision a minute."""
_HELD_BACK: Final = 0.3
"""Share of a recorded workload's earlier windows that choices are made by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDays:
    """The days of a pool; a `Workload` of it alone.

    Attributes:
        name: Of the pool.
        hours: Length of the time in which runs arrive.
        draw: The day of a split and a number.
        most: How many days each split has; splits that are not named have as many as wanted.
        regime: How policies are run while they are fitted.
    """

    name: str
    hours: float
    draw: Callable[[str, int], World]
    most: dict[str, int]
    regime: Regime = AS_GIVEN

    def world(self, cluster: int, day: int) -> World:
        """One day; the split follows from the number of the cluster, as everywhere."""
        split = next(name for name, seeds in SPLITS.items() if cluster in seeds)
        number = (cluster - SPLITS[split].start) * 8 + day
        return self.draw(split, number % self.most.get(split, number + 1))

    def batch(self, days: list[tuple[int, int]]) -> World:
        """Several days as one batch; each is (cluster, day)."""
        return stack([self.world(cluster, day) for cluster, day in days])

    def days(self, split: str, count: int) -> World:
        """The first days of a split, at most as many as there are."""
        return stack([self.draw(split, number) for number in range(min(count, self.most.get(split, count)))])


def pool_days(
    name: str, regime: Regime | None = None, traces: Path = TRACE_FOLDER, *, although_unfit: bool = False
) -> PoolDays:
    """The days of a pool.

    Args:
        name: See the module.
        regime: How policies are run while they are fitted; a controller's default with a decision a minute if None.
        traces: Folder of recorded workloads.
        although_unfit: Whether a scenario is taken that does not show the pool it was fitted to.

    Raises:
        InvalidInputError: The pool cannot be used; `UnknownNameError` if there is none of that name.
    """
    kind, colon, rest = name.partition(":")
    if not colon:
        days = _scenario_days(name, although_unfit)
    elif kind == "family":
        days = _family_days(name, rest)
    elif kind == "trace":
        days = _trace_days(name, rest, traces)
    else:
        raise UnknownNameError("kind of pool", kind, ("family", "trace"))
    return days if regime is None else replace(days, regime=regime)


def _scenario_days(name: str, although_unfit: bool) -> PoolDays:
    scenario = to_train_on(name, although_unfit=although_unfit)
    if len(scenario.pools) > 1:
        raise InvalidInputError(f"scenario {name!r}", f"{len(scenario.pools)} pools", "must have one pool")
    return PoolDays(
        name=scenario.name,
        hours=scenario.hours,
        draw=lambda split, number: draw_world(scenario, SPLITS[split].start + number),
        most={},
    )


def _family_days(name: str, seed: str) -> PoolDays:
    if not seed.isdecimal():
        raise InvalidInputError("pool", name, "write family:SEED with a whole number")
    family = Family(hours=8.0)
    first = {split: place * 10**6 for place, split in enumerate(SPLITS)}
    return PoolDays(
        name=name,
        hours=family.hours,
        draw=lambda split, number: family.world(int(seed), first[split] + number),
        most={},
    )


def _trace_days(name: str, wanted: str, traces: Path) -> PoolDays:
    earlier, later = ({case.name: case for case in trace_cases(split, traces)[0]} for split in ("validation", "test"))
    if wanted not in earlier:
        raise UnknownNameError("recorded workload", wanted, earlier)
    past: Case = earlier[wanted]
    count = past.most or 0
    held_back = max(1, round(_HELD_BACK * count))
    most = {"train": count - held_back, "validation": held_back, "test": later[wanted].most or 0}

    def draw(split: str, number: int) -> World:
        if split == "test":
            return later[wanted].world(number)
        return past.world(number if split == "validation" else held_back + number)

    return PoolDays(name=name, hours=8.0, draw=draw, most=most)

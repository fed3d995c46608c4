"""The domain-randomised family of clusters: worlds that differ in everything a policy should not rely on.

A seed draws a cluster (queues, deployments, resources, infrastructure, prices) and a day in it. Ranges follow the
public traces that the project was developed on: bursty arrivals, heavy-tailed durations, estimates that are off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from prefect_intelligent.domain import Prices, QueueSetting, RelativeDeadline
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec
from simulations.arrivals import DAY_S, HOUR_S, Arrivals, Bursts, Interval, Poisson
from simulations.workload import Duration, Scenario, Source, draw_world

SPLITS: Final = {
    "train": range(1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "test": range(2_000_000, 2_100_000),
}
"""Seeds of each split. Choices and tuning use the first two; the third is for the final test only."""

RESOURCES: Final = ("resource-0", "resource-1")
MOST_PER_HOUR: Final = 30.0
"""Largest number of runs of a deployment per hour; medians rise to keep below it, so a day has a few thousand runs."""

_MONDAY_S: Final = 1767571200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Bounds of the family.

    Attributes:
        queues: Least and largest number of queues.
        load: Range of offered work per hour over the reference slots.
        slots: Range of the reference number of slots.
        hours: Length of a day in which runs arrive.
        contention: Probability that a deployment uses a shared resource.
        owned: Probability that slots are bought ahead instead of serverless.
    """

    queues: tuple[int, int] = (2, 8)
    load: tuple[float, float] = (0.3, 1.0)
    slots: tuple[int, int] = (4, 16)
    hours: float = 24.0
    contention: float = 0.5
    owned: float = 0.8

    def __post_init__(self) -> None:
        if not 1 <= self.queues[0] <= self.queues[1]:
            raise InvalidInputError("queues", self.queues, "needs 1 <= least <= largest")

    def scenario(self, seed: int) -> Scenario:
        """The cluster of a seed."""
        rng = np.random.default_rng([seed, 7])
        count = int(rng.integers(self.queues[0], self.queues[1] + 1))
        slots = int(rng.integers(self.slots[0], self.slots[1] + 1))
        work_s = rng.uniform(*self.load) * slots * HOUR_S  # per hour
        shares = rng.dirichlet(np.full(count, 3.0))
        sources = tuple(
            self._source(f"{number:02d}", work_s * share, slots, rng) for number, share in enumerate(shares)
        )
        resources = tuple(_resource(name, work_s * shares, sources, rng) for name in RESOURCES)
        return Scenario(
            name=f"family-{seed}",
            purpose="One cluster of the training family.",
            pools=(self._pool(count, slots, rng),),
            sources=sources,
            resources=resources,
            hours=self.hours,
            start_s=_MONDAY_S + DAY_S * int(rng.integers(0, 28)) + HOUR_S * int(rng.integers(0, 24)),
        )

    def world(self, seed: int, day: int = 0) -> World:
        """A day in the cluster of a seed."""
        return draw_world(self.scenario(seed), seed * 1009 + day)

    def _pool(self, count: int, slots: int, rng: np.random.Generator) -> PoolSpec:
        owned = rng.uniform() < self.owned
        return PoolSpec(
            queues=tuple(QueueSetting(name=f"q{number:02d}", priority=number + 1) for number in rng.permutation(count)),
            limit=slots,
            prices=Prices(
                slot_usd_per_hour=float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))),
                min_billing_s=0.0 if owned else 60.0,
                idle_fraction=float(rng.choice([1.0, 1.0, 0.5])) if owned else 0.0,
            ),
            owned=bool(owned),
            max_slots=4 * slots,
            boot_s=float(rng.choice([0.0, 60.0, 180.0, 300.0])) if owned else 0.0,
            cooldown_s=float(rng.choice([0.0, 60.0, 300.0])) if owned else 0.0,
            poll_s=float(rng.choice([2.0, 5.0, 10.0])),
            startup_s=float(np.exp(rng.uniform(np.log(2.0), np.log(45.0)))),
            startup_spread=float(rng.uniform(0.1, 0.6)),
        )

    def _source(self, label: str, work_s: float, slots: int, rng: np.random.Generator) -> Source:
        """A deployment with `work_s` seconds of work per hour in queue `label`."""
        median_s = float(np.exp(rng.uniform(np.log(45.0), np.log(1500.0))))
        median_s = max(median_s, work_s / MOST_PER_HOUR)
        duration = Duration(median_s=median_s, cv=float(rng.uniform(0.1, 1.0)), tail=float(rng.choice([0, 0, 0.01])))
        mean_s = median_s * float(np.exp(0.5 * duration.sigma**2))
        per_hour = work_s / (mean_s * (1.0 + 6.0 * duration.tail))  # the tail's runs last some seven means
        kind = rng.choice(["schedule", "poisson", "bursts"], p=[0.5, 0.3, 0.2])
        stretch = float(rng.uniform(1.5, 6.0))
        arrivals: Arrivals
        if kind == "schedule":
            every_s = float(rng.choice([900.0, HOUR_S, 2 * HOUR_S, 6 * HOUR_S]))
            runs = max(1, round(per_hour * every_s / HOUR_S))
            every_s = max(every_s, HOUR_S * runs / max(per_hour, 1e-6))
            arrivals = Interval(every_s=every_s, offset_s=float(rng.uniform(0, every_s)), runs=runs)
            within_s = stretch * median_s * max(1.0, 2.0 * runs / slots)
            value = float(rng.choice([2.0, 5.0, 10.0, 20.0]))
        elif kind == "poisson":
            arrivals = Poisson(per_hour=per_hour, shape=str(rng.choice(["flat", "office", "night"])))
            within_s, value = 2 * stretch * median_s, float(rng.choice([1.0, 2.0, 5.0]))
        else:
            per_day = float(rng.uniform(1.0, 5.0))
            arrivals = Bursts(per_day=per_day, size=max(1.0, per_hour * 24.0 / per_day), spread_s=60.0)
            within_s, value = float(rng.uniform(2.0, 8.0)) * HOUR_S, float(rng.choice([0.2, 0.5, 1.0]))
        shared = rng.uniform() < self.contention
        fails = float(rng.choice([0.0, 0.01, 0.05, 0.2], p=[0.4, 0.3, 0.2, 0.1]))
        return Source(
            terms=DeploymentSpec(
                name=f"deployment-{label}",
                queue=f"q{label}",
                late_usd_per_hour=value,
                failure_usd=float(rng.choice([0.0, 1.0])),
                fails=fails,
                retries=int(rng.integers(0, 3)),
                retry_delay_s=30.0,
                retry_backoff=2.0,
                resources=(str(rng.choice(RESOURCES)),) if shared else (),
            ),
            duration=duration,
            arrivals=arrivals,
            deadline=RelativeDeadline(within_s=max(60.0, within_s)),
            estimate_bias=float(rng.uniform(0.0, 0.5)),
            estimate_noise=float(rng.uniform(0.0, 0.3)),
        )


def _resource(name: str, work_s: Array, sources: tuple[Source, ...], rng: np.random.Generator) -> ResourceSpec:
    """A resource with 1.2 to 3 times the capacity that its deployments need.

    Args:
        name: Its name.
        work_s: Seconds of work per hour that each deployment brings.
        sources: The deployments.
        rng: Draws the capacity.
    """
    offered = sum(float(work) for work, source in zip(work_s, sources, strict=True) if name in source.terms.resources)
    return ResourceSpec(
        name=name,
        capacity=float(max(2, round(offered / HOUR_S * rng.uniform(1.2, 3.0)))),
        slowdown=float(rng.uniform(1.0, 1.6)),
        failure=float(rng.choice([0.0, 0.05])),
    )

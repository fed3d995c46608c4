"""The one objective: capacity cost + lateness cost + failure cost, in US dollars.

Reward, evaluation, replay, analytics and promotion call the functions below. They take and return plain floats and use
no other function of ours, so that the twin can compile these very functions instead of having its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from prefect_intelligent.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What capacity costs, and how much lateness weighs against it.

    Attributes:
        slot_usd_per_hour: Price of one slot for one hour, busy or idle.
        min_billing_s: A run is billed for at least this long (e.g. 60 s on Fargate).
        idle_fraction: Share of the slot price that an unused slot of the pool's limit costs: 1 on nodes of your own,
            0 on serverless, between for shared nodes.
        lateness_weight: Multiplies every price of lateness; 1 uses the prices of the terms as they are. Also called the
            dial.
    """

    slot_usd_per_hour: float = 0.10
    min_billing_s: float = 0.0
    idle_fraction: float = 1.0
    lateness_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("slot_usd_per_hour", "min_billing_s", "lateness_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInputError(name, value, "must be a number, 0 or more")
        if not 0 <= self.idle_fraction <= 1:
            raise InvalidInputError("idle_fraction", self.idle_fraction, "must be between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money spent, split by cause.

    Attributes:
        capacity_usd: Slots, busy and idle, with minimum billing.
        lateness_usd: Weighted lateness.
        failure_usd: Runs that ended failed or crashed.
    """

    capacity_usd: float = 0.0
    lateness_usd: float = 0.0
    failure_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """The objective."""
        return self.capacity_usd + self.lateness_usd + self.failure_usd

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            capacity_usd=self.capacity_usd + other.capacity_usd,
            lateness_usd=self.lateness_usd + other.lateness_usd,
            failure_usd=self.failure_usd + other.failure_usd,
        )


def busy_usd(held_s: float, slot_usd_per_hour: float, min_billing_s: float) -> float:
    """Cost of one attempt that held a slot for `held_s` seconds."""
    return max(held_s, min_billing_s) * slot_usd_per_hour / 3600.0


def idle_usd(idle_slot_s: float, slot_usd_per_hour: float, idle_fraction: float) -> float:
    """Cost of `idle_slot_s` slot-seconds that the pool's limit paid for and nothing used."""
    return idle_slot_s * idle_fraction * slot_usd_per_hour / 3600.0


def lateness_usd(late_s: float, late_usd_per_hour: float, lateness_weight: float) -> float:
    """Cost of finishing (or still not having finished) `late_s` seconds past the due instant; early costs nothing."""
    return max(late_s, 0.0) * late_usd_per_hour * lateness_weight / 3600.0


def weighted_late_minutes(lateness_usd: float, mean_late_usd_per_hour: float, lateness_weight: float) -> float:
    """Lateness in minutes, each weighted by its run's price over the mean price, so that the weights average 1."""
    price = mean_late_usd_per_hour * lateness_weight
    return 60.0 * lateness_usd / price if price > 0 else 0.0


def run_cost(
    prices: Prices,
    *,
    held_s: float,
    late_s: float = 0.0,
    late_usd_per_hour: float = 0.0,
    failed: bool = False,
    failure_usd: float = 0.0,
) -> Cost:
    """Cost of one finished run, without the idle slots around it.

    Args:
        prices: Prices in force.
        held_s: Seconds for which it held a slot, all attempts together.
        late_s: Seconds from due to finished; negative is early.
        late_usd_per_hour: Its price of lateness.
        failed: Whether it ended failed or crashed.
        failure_usd: What that costs.
    """
    return Cost(
        capacity_usd=busy_usd(held_s, prices.slot_usd_per_hour, prices.min_billing_s),
        lateness_usd=lateness_usd(late_s, late_usd_per_hour, prices.lateness_weight),
        failure_usd=failure_usd if failed else 0.0,
    )

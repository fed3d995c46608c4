"""The regime: how a policy is run. Figures of one regime say nothing about another.

The defaults are those of the settings: what a controller does when nobody has said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.guard_state import GuardNumbers, GuardSettings

_DRAIN_S = 144_000.0
"""Seconds after which a simulated pool goes on without further decisions; a few days last very long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How often a policy decides, what the guard permits, and how far limits may go.

    Attributes:
        interval_s: Seconds between two decisions, above 0.
        guard: What the guard permits; its bounds hold besides those below.
        pool_factor: Largest pool limit over the one that people gave the pool, 1 or more; inf is no bound.
        queue_factor: The same for the limits of queues.
    """

    interval_s: float = 20.0
    guard: GuardSettings = field(default_factory=GuardSettings)
    pool_factor: float = 1.0
    queue_factor: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.interval_s) and self.interval_s > 0):
            raise InvalidInputError("interval_s", self.interval_s, "must be a number above 0")
        for name in ("pool_factor", "queue_factor"):
            if not getattr(self, name) >= 1:
                raise InvalidInputError(name, getattr(self, name), "must be 1 or more")

    @property
    def most_decisions(self) -> int:
        """Decisions after which an episode runs out without further ones."""
        return math.ceil(_DRAIN_S / self.interval_s)

    @property
    def name(self) -> str:
        """In words, for reports."""
        pool = "any pool limit" if math.isinf(self.pool_factor) else f"pool limit up to {self.pool_factor:g}x the given"
        return f"a decision every {self.interval_s:g} s, guard interval {self.guard.interval_s:g} s, {pool}"

    def outside(self, other: Regime) -> tuple[str, ...]:
        """In what this regime differs from another one, a phrase each; bounds below those of the other are inside."""
        found = []
        if self.interval_s != other.interval_s:
            found.append(f"a decision every {self.interval_s:g} s, not {other.interval_s:g} s")
        ours, theirs = self.guard.numbers()._asdict(), other.guard.numbers()._asdict()
        found += [f"guard.{name} {ours[name]:g}, not {theirs[name]:g}" for name in ours if ours[name] != theirs[name]]
        if self.pool_factor > other.pool_factor:
            found.append(f"a pool limit up to {self.pool_factor:g} times the given, not {other.pool_factor:g}")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; an infinite factor is None, bounds of single pools are left out."""
        return {
            "interval_s": self.interval_s,
            "guard": self.guard.numbers()._asdict(),
            "pool_factor": None if math.isinf(self.pool_factor) else self.pool_factor,
            "queue_factor": None if math.isinf(self.queue_factor) else self.queue_factor,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: A value is missing, unknown or out of range.
        """
        try:
            given = {"lower_after_s": 0.0} | data["guard"]  # regimes of before had none
            guard = GuardSettings(**{name: given[name] for name in GuardNumbers._fields})
            factors = {name: math.inf if data[name] is None else data[name] for name in ("pool_factor", "queue_factor")}
            return cls(interval_s=data["interval_s"], guard=guard, **factors)
        except (KeyError, TypeError) as error:
            raise InvalidInputError("regime", data, "is not one that this version has written") from error

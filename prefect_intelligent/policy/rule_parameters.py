"""The parameters of the rules, with the ranges in which tuning searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple, Self

from prefect_intelligent.errors import InvalidInputError, UnknownNameError


class Range(NamedTuple):
    """Range of a parameter.

    Attributes:
        low: Least value.
        high: Largest value.
        log: Whether tuning searches on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleParameters:
    """The parameters of a rule policy.

    Attributes:
        atc_k: Look-ahead of ATC, COVERT and the blend, in mean durations.
        value_exponent: Weight of the price of lateness in the blend.
        duration_exponent: Weight of short duration in the blend.
        backlog_exponent: Weight of the number of waiting runs in the blend.
        drain_s: Time within which a capacity rule wants the backlog gone, seconds.
        busy_fraction: Slots a capacity rule keeps for each active run.
        slack_horizon_s: Slack beyond this counts as this in the urgency-weighted capacity rule, seconds.
        look_ahead: Share of the work already scheduled within `lead_s` that counts as backlog.
        lead_s: Time that new capacity needs to become available, seconds.
        overdue_slots: Slots the look-ahead capacity rule adds for each overdue run, if lateness pays for them.
        doubt: Weight of uncertain durations in the look-ahead capacity rule: work counts exp(doubt * spread) times.
        resource_share: Share of a shared resource's capacity that the queues on it may use together.
        dial_exponent: How strongly wanted capacity follows the dial (`Prices.lateness_weight`).
        slots: The pool limit of the fixed capacity rule.
    """

    atc_k: float = 2.0
    value_exponent: float = 1.0
    duration_exponent: float = 1.0
    backlog_exponent: float = 0.0
    drain_s: float = 600.0
    busy_fraction: float = 1.0
    slack_horizon_s: float = 7200.0
    look_ahead: float = 0.5
    lead_s: float = 300.0
    overdue_slots: float = 0.0
    doubt: float = 0.0
    resource_share: float = 1.0
    dial_exponent: float = 0.0
    slots: float = 8.0

    def __post_init__(self) -> None:
        for name, bounds in PARAMETER_RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and bounds.low <= value <= bounds.high):
                raise InvalidInputError(name, value, f"must be between {bounds.low:g} and {bounds.high:g}")

    def to_vector(self, names: Sequence[str]) -> list[float]:
        """The named parameters as coordinates in [0, 1] for a search."""
        return [_to_unit(getattr(self, name), PARAMETER_RANGES[name]) for name in names]

    @classmethod
    def from_vector(cls, names: Sequence[str], vector: Sequence[float]) -> Self:
        """Inverse of `to_vector`; coordinates outside [0, 1] are clipped, other parameters are the defaults."""
        return cls(**{n: _from_unit(v, PARAMETER_RANGES[n]) for n, v in zip(names, vector, strict=True)})

    def to_dict(self) -> dict[str, float]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; missing parameters have their defaults.

        Raises:
            InvalidInputError: A value is out of range; `UnknownNameError` for a key that does not exist.
        """
        known = {field.name for field in fields(cls)}
        for key, value in data.items():
            if key not in known:
                raise UnknownNameError("rule parameter", key, known)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidInputError(key, value, "must be a number")
        return cls(**data)


class RuleNumbers(NamedTuple):
    """A rule policy as numbers, the form that the functions of the rules take; see `RuleParameters` for the rest.

    Attributes:
        priority: Number of the priority rule, a member of `priority_rules.Priority`.
        capacity: Number of the capacity rule, a member of `capacity_rules.Capacity`.
        limits: Number of the queue-limit rule, a member of `limit_rules.Limits`.
    """

    priority: int
    capacity: int
    limits: int
    atc_k: float
    value_exponent: float
    duration_exponent: float
    backlog_exponent: float
    drain_s: float
    busy_fraction: float
    slack_horizon_s: float
    look_ahead: float
    lead_s: float
    overdue_slots: float
    doubt: float
    resource_share: float
    dial_exponent: float
    slots: float


PARAMETER_RANGES: Final[Mapping[str, Range]] = {
    "atc_k": Range(0.1, 100.0, log=True),
    "value_exponent": Range(0.0, 3.0),
    "duration_exponent": Range(0.0, 2.0),
    "backlog_exponent": Range(0.0, 2.0),
    "drain_s": Range(30.0, 7200.0, log=True),
    "busy_fraction": Range(0.2, 2.0),
    "slack_horizon_s": Range(300.0, 86400.0, log=True),
    "look_ahead": Range(0.0, 2.0),
    "lead_s": Range(10.0, 3600.0, log=True),
    "overdue_slots": Range(0.0, 2.0),
    "doubt": Range(-1.0, 1.0),
    "resource_share": Range(0.5, 3.0),
    "dial_exponent": Range(0.0, 1.0),
    "slots": Range(1.0, 100_000.0, log=True),
}
"""Range of every parameter, as accepted and as searched."""


def _to_unit(value: float, bounds: Range) -> float:
    if bounds.log:
        return math.log(value / bounds.low) / math.log(bounds.high / bounds.low)
    return (value - bounds.low) / (bounds.high - bounds.low)


def _from_unit(value: float, bounds: Range) -> float:
    unit = min(1.0, max(0.0, value))
    if bounds.log:
        found = bounds.low * math.exp(unit * math.log(bounds.high / bounds.low))
    else:
        found = bounds.low + unit * (bounds.high - bounds.low)
    return min(bounds.high, max(bounds.low, found))

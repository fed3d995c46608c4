"""What a deployment is worth: its deadline, what lateness and failure cost, what it shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from prefect_intelligent.domain.deadlines import Deadline, parse_deadline
from prefect_intelligent.domain.spans import LONGEST_S, SHORTEST_S
from prefect_intelligent.domain.stale import StaleRuns
from prefect_intelligent.errors import InvalidInputError, UnknownNameError

MOST_RUNS = 1_000_000
"""Largest number of runs that terms may name."""

MOST_USD = 1e9
"""Largest price. More is a slip of the keyboard, and some numbers beyond it no server can store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the runs of one deployment are worth, and which data and resources they use.

    Attributes:
        deadline: When a run is due; None means that it cannot be late.
        late_usd_per_hour: Cost of each hour (continuously) past the deadline, in US dollars; 0 to `MOST_USD`.
        failure_usd: Cost of a run that ends failed or crashed, in US dollars; 0 to `MOST_USD`.
        expected_s: The author's estimate of a run's duration, seconds; used until enough runs have been measured.
        inputs: Datasets read.
        outputs: Datasets written.
        resources: Shared resources that a run loads while it runs (a warehouse, an API).
        contract: Path of the Soda data contract of the output.
        batch: Name of the parameter whose value tells one batch of data from another, e.g. "day"; None means "batch" if
            the flow has such a parameter, else every run is a batch of its own.
        stale: What is done with runs that wait too long: "keep", "latest only" or "cancel after SPAN".
        most_waiting: Due runs that may wait at once, 1 or more: of more the oldest are cancelled; None is no bound.
    """

    deadline: Deadline | None = None
    late_usd_per_hour: float = 1.0
    failure_usd: float = 0.0
    expected_s: float | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    contract: str | None = None
    batch: str | None = None
    stale: str = "keep"
    most_waiting: int | None = None

    def __post_init__(self) -> None:
        if self.deadline is not None and not isinstance(self.deadline, Deadline):
            raise InvalidInputError("deadline", self.deadline, "must be a span such as '45m' or a clock time")
        for name in ("late_usd_per_hour", "failure_usd"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= MOST_USD):
                what = "must be" if isinstance(value, int | float) else "has the wrong type, must be"
                raise InvalidInputError(
                    name, value, f"{what} a number of US dollars, 0 or more, at most {MOST_USD:.0f}"
                )
        if self.expected_s is not None and not (
            _is_number(self.expected_s) and SHORTEST_S <= self.expected_s <= LONGEST_S
        ):
            raise InvalidInputError(
                "expected_s", self.expected_s, "must be a number of seconds above 0, up to a century"
            )
        object.__setattr__(self, "stale", str(StaleRuns.parse(self.stale)))
        most = self.most_waiting
        if most is not None and not (isinstance(most, int) and not isinstance(most, bool) and 1 <= most <= MOST_RUNS):
            raise InvalidInputError("most_waiting", most, f"must be a whole number from 1 to {MOST_RUNS}")
        for name in ("contract", "batch"):
            if not isinstance(getattr(self, name), str | None):
                raise InvalidInputError(name, getattr(self, name), "must be text")
        for name in ("inputs", "outputs", "resources"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
                raise InvalidInputError(name, value, "must be a list of names, e.g. ['flights_clean']")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: only what differs from the default; the deadline as its text."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            out[field.name] = (
                str(value) if field.name == "deadline" else list(value) if isinstance(value, tuple) else value
            )
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: A value is not usable; `UnknownNameError` for a key that does not exist.
        """
        known = {field.name for field in fields(cls)}
        values = dict(data)
        for key in values:
            if key not in known:
                raise UnknownNameError("term", key, known)
        if isinstance(values.get("deadline"), str):
            values["deadline"] = parse_deadline(values["deadline"])
        for name in ("inputs", "outputs", "resources"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidInputError("terms", dict(data), f"a value has the wrong type ({error})") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

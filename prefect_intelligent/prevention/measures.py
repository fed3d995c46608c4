"""Measures against failures, and measures in force with their phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, Literal

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prevention.evidence import EndedRun

Mode = Literal["off", "shadow", "auto"]

DAY_S: Final = 86400.0


class Lever(StrEnum):
    """Kinds of measures."""

    HOLD = "hold"  # the deployments start no runs; scheduled runs wait
    SHARE = "share"  # a common limit: at most `amount` runs of the deployments at once
    RESIZE = "resize"  # `amount` times the memory
    AVOID = "avoid"  # run on other hosts than `host`
    ROLL_BACK = "roll back"  # deploy the previous version
    STOP = "stop"  # end one run, which started at `amount`, Unix seconds
    PATIENCE = "patience"  # `amount` more retries, with longer pauses
    CANCEL = "cancel"  # waiting runs are cancelled, as their owner asks
    POSTPONE = "postpone"  # waiting runs start `amount` seconds later
    ALERT = "alert"  # nothing can be done automatically


class MeasurePhase(StrEnum):
    """Phases of a measure, as of a circuit breaker: open, half-open, closed."""

    ON = "on"
    PROBING = "probing"  # partly released, to test whether runs succeed again
    OVER = "over"  # ended; kept until the phase ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure.

    Attributes:
        lever: Kind of the measure.
        deployments: Deployments to which it applies; empty is all.
        amount: Size, with the meaning given at `Lever`.
        runs: Ids of single runs to which it applies.
        host, version, causes: Restrict the failures that it explains to a host, a version and messages; None or empty
            is any.
    """

    lever: Lever
    deployments: tuple[str, ...] = ()
    amount: float = 0.0
    runs: tuple[str, ...] = ()
    host: str | None = None
    version: str | None = None
    causes: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> Measure:
        """Inverse of `dataclasses.asdict`; unknown fields are ignored.

        Raises:
            Exception: One of `UNREADABLE`.
        """
        known = {name: value for name, value in row.items() if name in cls.__slots__}
        known |= {name: tuple(known.get(name, ())) for name in ("deployments", "runs", "causes")}
        return cls(**{**known, "lever": Lever(row["lever"])})

    def concerns(self, run: EndedRun) -> bool:
        """Return whether a run is one that the measure should protect."""
        return (
            (not self.deployments or run.deployment in self.deployments)
            and (self.host is None or run.host == self.host)
            and (self.version is None or run.version == self.version)
            and (not self.causes or not run.failed or run.cause in self.causes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureInForce:
    """A measure of one rule on one subject.

    Attributes:
        rule: Name of the rule.
        subject: "host:a", "deployment:flow/x", "run:id", "resource:db" or "cause:message".
        measure: The measure.
        phase: Its phase.
        since_s: Begin of the phase, Unix seconds.
        bad_since_s: Begin of the failures: those from then on are explained by it. Unix seconds.
        wait_s: Longest duration of the phase, seconds.
        count: Number of failed probes, or of increases.
        probability: Predicted probability that an affected run fails without the measure, 0 to 1.
        why: The reason, one sentence.
        written: Whether it was carried out in Prefect, or only recorded.
    """

    rule: str
    subject: str
    measure: Measure
    phase: MeasurePhase = MeasurePhase.ON
    since_s: float
    bad_since_s: float
    wait_s: float
    count: int = 0
    probability: float
    why: str
    written: bool = False

    @property
    def key(self) -> str:
        """Rule and subject, the key of a measure."""
        return f"{self.rule} {self.subject}"

    @property
    def phase_ends_s(self) -> float:
        """Latest end of the phase, Unix seconds."""
        return self.since_s + self.wait_s

    def explains(self, run: EndedRun) -> bool:
        """Return whether the measure already covers a failure."""
        return self.phase is not MeasurePhase.OVER and run.ended_s >= self.bad_since_s and self.measure.concerns(run)

    def with_phase(self, phase: MeasurePhase, now_s: float, why: str, **changes: Any) -> MeasureInForce:
        """Return a copy in another phase since `now_s`."""
        return replace(self, phase=phase, since_s=now_s, why=why, **changes)

    def to_record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> MeasureInForce:
        """Inverse of `to_record`; unknown fields are ignored.

        Raises:
            Exception: One of `UNREADABLE`.
        """
        known = {name: value for name, value in row.items() if name in cls.__slots__}
        return cls(**{**known, "measure": Measure.from_record(row["measure"]), "phase": MeasurePhase(row["phase"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings:
    """Mode and budget of one rule.

    Attributes:
        mode: "off", "shadow" (only recorded) or "auto".
        most: Largest number of its measures in force at once.
        per_day: Largest number of its new measures in 24 hours.
        again: Whether a stopped run is started again.
    """

    mode: Mode = "shadow"
    most: int = 10
    per_day: int = 20
    again: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("off", "shadow", "auto") or self.most < 0 or self.per_day < 0:
            raise InvalidInputError(
                "settings of a prevention rule", self, "mode off, shadow or auto; budgets 0 or more"
            )

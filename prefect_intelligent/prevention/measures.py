"""What can be done about failures, and what has been: a measure, and a measure in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, Literal

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prevention.evidence import EndedRun

Mode = Literal["off", "shadow", "auto"]


class Lever(StrEnum):
    """Kinds of measures."""

    HOLD = "hold"  # the deployments start no runs; none is lost
    SHARE = "share"  # of these deployments at most `amount` runs at once
    RESIZE = "resize"  # `amount` times the memory
    AVOID = "avoid"  # keep away from a host
    ROLL_BACK = "roll back"  # to the version before
    STOP = "stop"  # end one run, which started at `amount`
    PATIENCE = "patience"  # `amount` more retries, with longer pauses
    POSTPONE = "postpone"  # runs that wait start `amount` seconds later
    ALERT = "alert"  # only a person can help


class MeasurePhase(StrEnum):
    """Where a measure stands."""

    ON = "on"
    PROBING = "probing"  # let go a little, to see whether it works again
    OVER = "over"  # ended, and remembered for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is done.

    Attributes:
        lever: Kind.
        deployments: Whose runs it is about.
        amount: Its size, as `Lever` says.
        runs: Single runs it is about.
        host, version, causes: Which failures of the deployments it explains; empty is any.
    """

    lever: Lever
    deployments: tuple[str, ...] = ()
    amount: float = 0.0
    runs: tuple[str, ...] = ()
    host: str | None = None
    version: str | None = None
    causes: tuple[str, ...] = ()

    def concerns(self, run: EndedRun) -> bool:
        """Whether a run is one that this was meant to save."""
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
        subject: What it is about: "host:a", "deployment:flow/x", "run:id".
        measure: What is done.
        phase: Where it stands.
        since_s: When that phase began.
        bad_since_s: When the trouble began: failures from then on are explained.
        wait_s: How long the phase lasts, at most.
        count: Probes that failed, or steps taken.
        probability: Chance that a run concerned fails if nothing is done.
        why: One sentence.
        written: Whether it was really done, or only recorded.
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
        """One text for rule and subject."""
        return f"{self.rule} {self.subject}"

    @property
    def waited_s(self) -> float:
        """When the phase's time is up."""
        return self.since_s + self.wait_s

    def explains(self, run: EndedRun) -> bool:
        """Whether a failure is already taken care of."""
        return self.phase is not MeasurePhase.OVER and run.ended_s >= self.bad_since_s and self.measure.concerns(run)

    def turned(self, phase: MeasurePhase, now_s: float, why: str, **changes: Any) -> MeasureInForce:
        """The same in another phase from now on."""
        return replace(self, phase=phase, since_s=now_s, why=why, **changes)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> MeasureInForce:
        """Inverse of `to_record`."""
        given = dict(row["measure"])
        measure = Measure(
            **{
                **given,
                "lever": Lever(given["lever"]),
                **{name: tuple(given[name]) for name in ("deployments", "runs", "causes")},
            }
        )
        return cls(**{**row, "measure": measure, "phase": MeasurePhase(row["phase"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings:
    """What one rule may do.

    Attributes:
        mode: "off", "shadow" (only recorded) or "auto".
        most: Measures of it in force at once.
        per_day: New measures of it in 24 hours.
        again: Whether a run that was stopped is run again.
    """

    mode: Mode = "shadow"
    most: int = 10
    per_day: int = 20
    again: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("off", "shadow", "auto") or self.most < 0 or self.per_day < 0:
            raise InvalidInputError("terms of a prevention rule", self, "mode off, shadow or auto; budgets 0 or more")


DAY_S: Final = 86400.0

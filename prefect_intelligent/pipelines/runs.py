"""A flow run as rollouts look at it: what it was given, what it executed, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

RunState = Literal["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING"]

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
ACTIVE: Final = frozenset({"PENDING", "RUNNING", "CANCELLING"})

VERSION_LABEL: Final = "prefect-intelligent.version"
"""Label of a flow run that says which version of our records it really executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """One flow run.

    Attributes:
        id: Prefect's id.
        deployment: "flow/deployment".
        state: Type of its state.
        scheduled_s: When it was expected to start.
        started_s: When it first ran; None if it has not.
        ended_s: When it ended; None if it has not.
        parameters: What it was given.
        env: Environment variables of its own job variables.
        version: The version that it executed; None if it was not stamped.
        auto_scheduled: Whether a schedule made it.
    """

    id: str
    deployment: str
    state: RunState
    scheduled_s: float
    started_s: float | None = None
    ended_s: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    auto_scheduled: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    @property
    def failed(self) -> bool:
        """Whether it ended failed or crashed."""
        return self.state in ("FAILED", "CRASHED")

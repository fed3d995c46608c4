"""A flow run of a deployment: state, times, parameters, and the version that it executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

RunState = Literal["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING"]

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
ACTIVE: Final = frozenset({"PENDING", "RUNNING", "CANCELLING"})

VERSION_LABEL: Final = "prefect-intelligent.version"
"""Label of a flow run: the id of the deployment version that it executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """One flow run.

    Attributes:
        id: Prefect's id.
        deployment: "flow/deployment".
        state: Type of its state.
        scheduled_s: Expected start, or creation if that was later, Unix seconds.
        started_s: Start of its first attempt; None before that.
        ended_s: End; None before that.
        parameters: Its parameters.
        env: Environment variables in its job variables.
        version: Id of the version that it executed; None without the label `VERSION_LABEL`.
        auto_scheduled: Whether a schedule created it.
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
        """Whether it is in a final state."""
        return self.state in ENDED

    @property
    def failed(self) -> bool:
        """Whether it failed or crashed."""
        return self.state in ("FAILED", "CRASHED")

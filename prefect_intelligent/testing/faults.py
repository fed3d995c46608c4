"""Scripted failures: what a fake does on its next calls instead of working."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prefect_intelligent.testing.clock import ManualClock


@dataclass(slots=True)
class Faults:
    """Failures for the next calls. Each applies to calls of the given name, or to any call if no name is given.

    Calls are named after the methods of `Orchestrator`; each single write within `apply` is the call "write".
    """

    clock: ManualClock
    calls: list[str] = field(default_factory=list)
    """Every call made so far."""
    slow_s: float = 0.0
    """Seconds by which each call moves the clock."""
    _errors: list[tuple[str | None, Exception]] = field(default_factory=list)
    _edits: list[tuple[str | None, Callable[[], None]]] = field(default_factory=list)

    def fail(self, error: Exception, *, on: str | None = None, times: int = 1) -> None:
        """Raise `error` on the next `times` such calls."""
        self._errors.extend([(on, error)] * times)

    def meanwhile(self, edit: Callable[[], None], *, on: str | None = None) -> None:
        """Run `edit` (what a person or another client does) just before the next such call."""
        self._edits.append((on, edit))

    def strike(self, call: str) -> None:
        """Apply the script at the start of `call`."""
        self.calls.append(call)
        self.clock.sleep(self.slow_s)
        for index, (name, edit) in enumerate(self._edits):
            if name in (None, call):
                del self._edits[index]
                edit()
                break
        for index, (name, error) in enumerate(self._errors):
            if name in (None, call):
                del self._errors[index]
                raise error

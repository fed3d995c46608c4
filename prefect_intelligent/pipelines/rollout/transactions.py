"""Several writes to Prefect as one: all of them or none, also after a crash.

The intent, with what every resource held and shall hold, is kept in the history before the first write. Whoever comes
next finishes an intent that has no outcome. A write that Prefect refuses takes the whole intent back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import ConflictError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.pipelines.ports import PipelineServer
from prefect_intelligent.pipelines.resource_changes import ResourceChange, from_dicts, inverse_changes

SCOPE: Final = "pipelines"
"""Where the history keeps records that belong to no single pool."""
INTENT: Final = "pipeline-intent"
OUTCOME: Final = "pipeline-outcome"


FollowUp = Callable[[PipelineServer, Mapping[str, Any]], None]
"""What happens to runs once the changes hold, from an intent's details; must be harmless when repeated."""


def _nothing(server: PipelineServer, details: Mapping[str, Any]) -> None:
    """No follow-up."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Writes changes and remembers them.

    One process at a time may use it on one history (the caller holds a lock): an intent without outcome is then that
    of a process that has died.

    Attributes:
        server: Where to.
        history: Where intents are kept.
        clock: The time.
        follow_up: What happens to runs once the changes hold.
    """

    server: PipelineServer
    history: HistoryStore
    clock: Clock
    follow_up: FollowUp = _nothing

    def begin(self, title: str, changes: Sequence[ResourceChange]) -> None:
        """Make changes hold for the time being: `commit` replaces them, `abandon` or the next command takes them back.

        Raises:
            ConflictError: Prefect has refused one; none of them holds.
        """
        record = {"name": uuid.uuid4().hex, "title": title, "changes": [c.to_dict() for c in changes], "interim": True}
        self.history.append(INTENT, SCOPE, self.clock.now_s(), record)
        for change in changes:
            self.server.write(change.resource, change.after)

    def abandon(self) -> None:
        """Take back what `begin` has made."""
        self._finish_last()

    def commit(self, title: str, changes: Sequence[ResourceChange], details: Mapping[str, Any] | None = None) -> str:
        """Make all changes hold and return the intent's name.

        Raises:
            ConflictError: Prefect has refused one; none of them holds.
            OrchestratorUnavailableError: Prefect has gone away; the next command finishes the intent.
        """
        at_s = self.clock.now_s()
        name = uuid.uuid4().hex
        record: dict[str, Any] = {
            "name": name,
            "title": title,
            "changes": [change.to_dict() for change in changes],
            "details": dict(details or {}),
            "at_s": at_s,
        }
        self.history.append(INTENT, SCOPE, at_s, record)
        self._carry_out(name, changes, record["details"])
        return name

    def pending(self) -> bool:
        """Whether something was begun and has no outcome: by a process at work, or by one that died."""
        last, outcome = self.history.latest(INTENT, SCOPE), self.history.latest(OUTCOME, SCOPE)
        return last is not None and (outcome is None or outcome["name"] != last["name"])

    def recover(self) -> str | None:
        """Finish what a process that died has begun; the title of it, None if there was nothing.

        Raises:
            ConflictError: Prefect has refused it; it has been taken back.
        """
        return self._finish_last()

    def _finish_last(self) -> str | None:
        last = self.history.latest(INTENT, SCOPE)
        if last is None or not self.pending():
            return None
        changes = from_dicts(last["changes"])
        if last.get("interim"):
            for change in inverse_changes(changes):
                self.server.write(change.resource, change.after)
            self._close(last["name"], "undone", "interim")
        else:
            self._carry_out(last["name"], changes, last["details"])
        return str(last["title"])

    def intents(self) -> list[Mapping[str, Any]]:
        """All intents that were carried out, oldest first."""
        done = {record["name"] for record in self.history.records(OUTCOME, SCOPE) if record["outcome"] == "done"}
        return [record for record in self.history.records(INTENT, SCOPE) if record["name"] in done]

    def _carry_out(self, name: str, changes: Sequence[ResourceChange], details: Mapping[str, Any]) -> None:
        written: list[ResourceChange] = []
        try:
            for change in changes:
                written.append(change)
                self.server.write(change.resource, change.after)
        except ConflictError as error:
            refused = written[-1].resource  # may be half written; if its old content is refused too, it never was
            for change in inverse_changes(written):
                with suppress(*([ConflictError] if change.resource == refused else [])):
                    self.server.write(change.resource, change.after)
            self._close(name, "undone", str(error))
            raise
        self.follow_up(self.server, details)
        self._close(name, "done")

    def _close(self, name: str, outcome: str, reason: str = "") -> None:
        record = {"name": name, "outcome": outcome, "reason": reason}
        self.history.append(OUTCOME, SCOPE, self.clock.now_s(), record)

"""Atomic writes of several resources to Prefect, also across crashes (write-ahead log).

The intent, with the old and new content of every resource, is recorded in the history before the first write. The next
process completes an intent without an outcome. If Prefect rejects a write, the whole intent is rolled back.
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
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.pipelines.ports import PipelineServer
from prefect_intelligent.pipelines.resource_changes import ResourceChange, from_dicts, taken_back

SCOPE: Final = "pipelines"
"""Pool name of history records that belong to no single pool."""
INTENT: Final = "pipeline-intent"
OUTCOME: Final = "pipeline-outcome"


FollowUp = Callable[[PipelineServer, Mapping[str, Any]], None]
"""Action on runs after the changes are written, from the intent's details; must be idempotent."""


def _no_follow_up(server: PipelineServer, details: Mapping[str, Any]) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Writes changes to Prefect and records them.

    Only one process at a time may use it on one history, so the caller must hold a lock. An intent without outcome then
    belongs to a process that died.

    Attributes:
        server: The Prefect server.
        history: Stores the intents.
        clock: The time.
        follow_up: Action on runs after the changes are written.
    """

    server: PipelineServer
    history: HistoryStore
    clock: Clock
    follow_up: FollowUp = _no_follow_up

    def begin(self, title: str, changes: Sequence[ResourceChange]) -> None:
        """Write interim changes: `commit` supersedes them, `abandon` or the next command reverts them.

        Raises:
            ConflictError: Prefect rejected a change; call `abandon` to revert the others.
        """
        record = {"name": uuid.uuid4().hex, "title": title, "changes": [c.to_dict() for c in changes], "interim": True}
        self.history.append(INTENT, SCOPE, self.clock.now_s(), record)
        for change in changes:
            self.server.write(change.resource, change.after)

    def abandon(self) -> None:
        """Revert the changes of `begin`."""
        self._finish_last()

    def commit(self, title: str, changes: Sequence[ResourceChange], details: Mapping[str, Any] | None = None) -> str:
        """Write all changes and return the intent's name.

        Raises:
            ConflictError: Prefect rejected a change; all were reverted.
            OrchestratorUnavailableError: Prefect did not answer; the next command completes the intent.
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
        self._write(name, changes, record["details"])
        return name

    def pending(self) -> bool:
        """Return whether the last intent has no outcome: its process is at work or died."""
        return self._unfinished() is not None

    def recover(self) -> str | None:
        """Complete the intent of a process that died and return its title; None if there is none.

        Raises:
            ConflictError: Prefect rejected it; it was reverted.
        """
        return self._finish_last()

    def _unfinished(self) -> Mapping[str, Any] | None:
        """Return the last intent if it has no outcome, else None."""
        last = read_latest(self.history, INTENT, SCOPE, _read_intent)
        ended = read_latest(self.history, OUTCOME, SCOPE, lambda record: str(record["name"]))
        return None if last is None or last["name"] == ended else last

    def _finish_last(self) -> str | None:
        last = self._unfinished()
        if last is None:
            return None
        changes = from_dicts(last["changes"])
        if last["interim"]:
            self._take_back(changes)
            self._close(last["name"], "undone", "interim")
        else:
            self._write(last["name"], changes, last["details"])
        return str(last["title"])

    def intents(self) -> list[Mapping[str, Any]]:
        """Return all completed intents, oldest first."""
        outcomes = self.history.records(OUTCOME, SCOPE)
        ended = read_each(OUTCOME, outcomes, lambda record: (str(record["name"]), record["outcome"]))
        done = {name for name, outcome in ended if outcome == "done"}
        intents = read_each(INTENT, self.history.records(INTENT, SCOPE), _read_intent)
        return [intent for intent in intents if intent["name"] in done]

    def _write(self, name: str, changes: Sequence[ResourceChange], details: Mapping[str, Any]) -> None:
        written: list[ResourceChange] = []
        try:
            for change in changes:
                written.append(change)
                self.server.write(change.resource, change.after)
        except ConflictError as error:
            # the last may be partly written; if its old content is rejected too, nothing was written
            self._take_back(written, refused=written[-1].resource)
            self._close(name, "undone", str(error))
            raise
        self.follow_up(self.server, details)
        self._close(name, "done")

    def _take_back(self, changes: Sequence[ResourceChange], refused: str | None = None) -> None:
        """Undo changes, last one first, without what somebody else has changed since."""
        for change in reversed(changes):
            with suppress(*([ConflictError] if change.resource == refused else [])):
                changed = change.before is not None and change.after is not None
                now = self.server.read(change.resource) if changed else None
                self.server.write(change.resource, taken_back(change, now))

    def _close(self, name: str, outcome: str, reason: str = "") -> None:
        record = {"name": name, "outcome": outcome, "reason": reason}
        self.history.append(OUTCOME, SCOPE, self.clock.now_s(), record)


def _read_intent(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded intent, with defaults for fields that earlier versions of the package did not write."""
    from_dicts(record["changes"])
    return {"title": "", "details": {}, "interim": False, **record, "name": str(record["name"])}

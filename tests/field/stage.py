"""A pool on a real server on which situations are planted: one run that does not start, for known reasons."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.field.owners import Owner
from tests.real_prefect import RealServer, iso, made_earlier

FULL_LIMIT = 1


class Stage:
    """A pool with a queue, a deployment in it, and another one in the same queue; a worker has just reported.

    Args:
        server: A server on SQLite: instants in the past are written into its database.
    """

    def __init__(self, server: RealServer) -> None:
        self.server, self.api = server, server.api()
        self.pool = self.api.pool()
        self.queue_id = self.api.queue(self.pool, "q", priority=10)
        self.owner = Owner(self.api, self.pool, work_queue_name="q")
        self.other = Owner(self.api, self.pool, work_queue_name="q")
        self.run: str | None = None
        self.worker_slots: int | None = None
        self.undo: list[Callable[[], None]] = []
        self.begun: list[str] = []
        self.worker()

    @property
    def subject(self) -> str:
        """What `why` is asked about: the run, or the deployment if there is none."""
        return self.run or self.owner.name

    def call(self, method: str, route: str, body: Any = None) -> Any:
        """A call of the API."""
        return self.api.call(method, route, body)

    def later(self, function: Callable[[], Any]) -> None:
        """What undoes the situation, as its advice says."""
        self.undo.append(function)

    def resolve(self) -> None:
        """Do what was advised for every reason."""
        for function in reversed(self.undo):
            function()

    def due(self, owner: Owner | None = None, **more: Any) -> str:
        """The run, due; by itself or of another owner."""
        run = (owner or self.owner).run(in_s=-1.0, **more)
        if owner is None:
            self.run = run
        return run

    def begin(self, owner: Owner) -> str:
        """A run that holds a slot."""
        run = owner.begin()
        self.begun.append(run)
        return run

    def end(self, *runs: str) -> None:
        """End runs that hold slots."""
        for run in runs:
            self.api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "COMPLETED"}, "force": True})

    def worker(self, name: str = "w", pool: str | None = None) -> None:
        """A worker reports."""
        body = {"name": name, "heartbeat_interval_seconds": 30}
        self.call("POST", f"/work_pools/{pool or self.pool}/workers/heartbeat", body)

    def poll(self) -> list[str]:
        """What a worker would be given now."""
        return self.api.polled(self.pool)

    def starts(self) -> bool:
        """Whether a worker that polls now starts the run; one that does is left pending."""
        assert self.run is not None
        return self.run in self.poll() and self.api.set_state(self.run, "PENDING")["status"] == "ACCEPT"

    def propose(self, run: str) -> str:
        """Have a worker take it, whatever the poll gives; the name of the state that it has then."""
        self.api.set_state(run, "PENDING")
        return str(self.api.read_run(run)["state_name"])

    def schedule(self, run: str, in_s: float, name: str = "Scheduled") -> None:
        """Schedule a run anew."""
        state = {"type": "SCHEDULED", "name": name, "state_details": {"scheduled_time": iso(time.time() + in_s)}}
        self.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})

    def child(self, parent: str, owner: Owner, *, due: bool = True) -> str:
        """A run that another has started with `run_deployment` and waits for."""
        task = {
            "name": "call",
            "flow_run_id": parent,
            "task_key": "call",
            "dynamic_key": uuid.uuid4().hex,
            "state": {"type": "PENDING"},
        }
        made = self.call("POST", "/task_runs/", task)["id"]
        return owner.run(in_s=-1.0 if due else 600.0, parent_task_run_id=made)

    def write(self, statement: str, *values: Any) -> None:
        """Change the server's database."""
        with sqlite3.connect(self.server.home / "prefect.db", timeout=60) as database:
            changed = database.execute(statement, values).rowcount
            assert changed, statement
        database.close()

    def earlier(self, run: str, seconds: float) -> None:
        """Move a run and its state back in time."""
        made_earlier(self.server, run, seconds)
        for column in ("expected_start_time", "next_scheduled_start_time"):
            found = self.api.read_run(run)[column]
            if found is not None:
                moved = _stored(found, seconds)
                self.write(f"UPDATE flow_run SET {column} = ? WHERE id = ?", moved, run)
        state = self.api.read_run(run)["state"]
        moved = _stored(state["timestamp"], seconds)
        self.write("UPDATE flow_run_state SET timestamp = ? WHERE id = ?", moved, state["id"])


def _stored(text: str, seconds: float) -> str:
    from datetime import UTC, datetime, timedelta

    moved = datetime.fromisoformat(text).astimezone(UTC) - timedelta(seconds=seconds)
    return moved.strftime("%Y-%m-%d %H:%M:%S.%f")


def ago(seconds: float) -> str:
    """An instant in the past as SQLite has it."""
    return _stored(iso(time.time()), seconds)

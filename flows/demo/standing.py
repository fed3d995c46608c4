"""What `demo-up` has left running, and `demo-down`, which stops it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psutil
from rich.console import Console

from flows.demo.environment import Folders
from flows.demo.processes import stop_tree
from prefect_intelligent.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A process that was left running.

    Attributes:
        name: What it is.
        pid: Process id.
        created_s: When it was created, Unix seconds; tells it from a later process of the same id.
    """

    name: str
    pid: int
    created_s: float

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created_s) < 1.0
        except psutil.NoSuchProcess:
            return False


def read_standing(folders: Folders) -> list[Standing]:
    """The processes that `bring_up` has left, in the order in which they were started."""
    if not folders.processes.exists():
        return []
    return [Standing(**entry) for entry in json.loads(folders.processes.read_text(encoding="utf-8"))]


def refuse_if_up(folders: Folders) -> None:
    """Refuse to start a second time.

    Raises:
        InvalidInputError: Something of it still runs.
    """
    if any(process.alive for process in read_standing(folders)):
        raise InvalidInputError("demo-up", str(folders.output), "is up already; stop it first with `make demo-down`")


def note(name: str, pid: int) -> Standing:
    """What to remember of a process that runs."""
    return Standing(name=name, pid=pid, created_s=psutil.Process(pid).create_time())


def take_down(folders: Folders, console: Console) -> None:
    """Stop what `bring_up` has left running, the controller first; nothing happens if nothing runs."""
    for process in reversed(read_standing(folders)):
        if process.alive:
            stop_tree(process.pid)
            console.print(f"stopped the {process.name}")
    folders.processes.unlink(missing_ok=True)

"""The processes that `make demo-up` has left running, and `make demo-down`, which stops them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psutil
from rich.console import Console

from flows.demo.environment import Folders
from flows.demo.processes import stop_tree
from prefect_intelligent.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProcess:
    """A process that was left running.

    Attributes:
        name: Its name in messages.
        pid: Process id.
        created_s: When it was created, Unix seconds; distinguishes it from a later process with the same id.
    """

    name: str
    pid: int
    created_s: float

    @property
    def alive(self) -> bool:
        """Whether that process still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created_s) < 1.0
        except psutil.NoSuchProcess:
            return False


def read_processes(folders: Folders) -> list[RunningProcess]:
    """The processes that `bring_up` has left running, in the order of their start."""
    if not folders.processes.exists():
        return []
    return [RunningProcess(**entry) for entry in json.loads(folders.processes.read_text(encoding="utf-8"))]


def refuse_if_up(folders: Folders) -> None:
    """Raise if the demo is up.

    Raises:
        InvalidInputError: A process of it still runs.
    """
    if any(process.alive for process in read_processes(folders)):
        raise InvalidInputError("demo-up", str(folders.output), "is up already; stop it first with `make demo-down`")


def describe_process(name: str, pid: int) -> RunningProcess:
    """The entry of a running process."""
    return RunningProcess(name=name, pid=pid, created_s=psutil.Process(pid).create_time())


def take_down(folders: Folders, console: Console) -> None:
    """Stop the processes that `bring_up` has left running, in reverse order of their start."""
    for process in reversed(read_processes(folders)):
        if process.alive:
            stop_tree(process.pid)
            console.print(f"stopped the {process.name}")
    folders.processes.unlink(missing_ok=True)

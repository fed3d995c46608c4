"""How the processes of a test run share the files among them.

Tests with servers wait most of their time, pure ones compute. So one process, the last of three or more, takes the pure
ones alone and gives way to the others in everything; it uses the time in which they wait.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

PURE: Final = ("architecture", "properties", "unit")
"""Folders of tests that start no server."""
_LEAST_PROCESSES: Final = 3


def is_pure(path: str) -> bool:
    """Whether the file of a test, as a path from the repository, is one of those that start no server."""
    return PurePath(path).parts[1] in PURE


def is_aside() -> bool:
    """Whether this process is the one that takes the pure files."""
    return _is_last(os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")))


def _is_last(worker: str, count: int) -> bool:
    return count >= _LEAST_PROCESSES and worker == f"gw{count - 1}"


class PureAside(LoadFileScheduling):
    """File by file; the last process gets pure files only, and the others take those that are left in the end."""

    def _pure_left(self) -> str | None:
        return next((scope for scope in self.workqueue if is_pure(scope)), None)

    def _is_aside(self, node: WorkerController) -> bool:
        return _is_last(node.gateway.id, self.numnodes)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self._is_aside(node) and (scope := self._pure_left()) is not None:
            self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if self._is_aside(node) and self._pure_left() is None and not node.shutting_down:
            node.shutdown()
            return
        super()._reschedule(node)

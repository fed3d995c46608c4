"""Child processes with a log each, terminated with all their descendants, also when the demo is killed."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from prefect_intelligent.errors import PrefectIntelligentError

PR_SET_PDEATHSIG = 1


class DemoError(PrefectIntelligentError, RuntimeError):
    """The demo cannot go on; the message says what happened and where to look."""


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A child process in a process group of its own, so that ctrl-C in the terminal reaches only the demo.

    Args:
        name: Its name in messages.
        command: Arguments of the Python interpreter, e.g. ["-m", "prefect", "server", "start"].
        env: Its whole environment.
        log: File for its output.
        cwd: Its working directory.
        outlives_us: Whether it goes on when the demo's process ends (`demo-up`).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        *,
        outlives_us: bool = False,
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_reset_signals if outlives_us else _die_with_parent,
            )

    @property
    def pid(self) -> int:
        """Process id and process group id."""
        return self._process.pid

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            DemoError: With the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
            raise DemoError(f"the {self.name} ended with code {code}; its log {self.log} ends with:\n{tail}")

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready` returns True.

        Raises:
            DemoError: It ended, or was not ready in time.
        """
        end_s = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end_s:
                raise DemoError(f"the {self.name} was not ready within {timeout_s:.0f} s; see its log {self.log}")
            time.sleep(0.2)

    def stop(self, timeout_s: float = 20.0) -> int | None:
        """Terminate it and its descendants, see `stop_tree`; returns its exit code."""
        stop_tree(self.pid, timeout_s)
        return self._process.wait()


def stop_tree(pid: int, timeout_s: float = 20.0) -> None:
    """Terminate a process, kill it after `timeout_s`, then kill all its descendants.

    The worker starts each flow run in a session of its own, so a signal to its group would not reach them.
    """
    try:
        root = psutil.Process(pid)
        descendants = root.children(recursive=True)
        root.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs([root], timeout_s)
    for process in (*alive, *descendants):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs([*alive, *descendants], 5.0)


def _reset_signals() -> None:
    """Restore SIGINT in the child: a background job of a shell ignores it, and Prefect's worker stops by it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _die_with_parent() -> None:
    """Let the child receive SIGTERM when the demo is killed (Linux)."""
    _reset_signals()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

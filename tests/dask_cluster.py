"""A Dask cluster of processes that share no folder and no variables; its workers can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_prefect import REPOSITORY, Process, free_port  # first: it scrubs the environment

_PATIENCE_S = 240.0


class DaskCluster:
    """A scheduler, and workers of one thread each.

    Args:
        folder: An empty folder; scheduler and workers have folders of their own in it.
    """

    def __init__(self, folder: Path) -> None:
        from distributed import Client

        self._folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._processes = {"scheduler": self._start("scheduler", "--host", self.address, "--no-dashboard")}
        self.client = Client(self.address, timeout=_PATIENCE_S)

    def add_worker(self, name: str) -> None:
        """Start a worker and wait until the scheduler has it."""
        words = (self.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self._processes[name] = self._start("worker", *words, folder=name)
        self.wait(lambda: name in self._names(), f"worker {name}")

    def busy(self, name: str) -> bool:
        """Whether a worker is doing a part."""
        address = self._names().get(name, "")
        return bool(self.client.processing().get(address))

    def kill_when_busy(self, name: str) -> None:
        """`kill -9` a worker in the middle of a part."""
        self.wait(lambda: self.busy(name), f"a part on worker {name}")
        self._processes[name].kill()

    def stop(self) -> None:
        """End everything."""
        self.client.close()
        for process in reversed(self._processes.values()):
            process.signal(signal.SIGTERM)
            process.stop()

    def wait(self, holds: object, what: str) -> None:
        """Wait for a fact."""
        assert callable(holds)
        until = time.monotonic() + _PATIENCE_S
        while not holds():
            logs = "\n".join(process.tail(5) for process in self._processes.values())
            assert time.monotonic() < until, f"{what} did not come in time:\n{logs}"
            time.sleep(0.02)

    def _names(self) -> dict[str, str]:
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return {worker["name"]: address for address, worker in workers.items()}

    def _start(self, program: str, *words: str, folder: str = "scheduler") -> Process:
        place = self._folder / folder
        (place / "tmp").mkdir(parents=True)
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env |= {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(place / "tmp"), "PREFECT_HOME": str(place / "home")}
        env |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
        return Process([sys.executable, "-m", "distributed.cli.dask_" + program, *words], env, place / "log", place)


@contextmanager
def open_cluster(folder: Path, *workers: str) -> Iterator[DaskCluster]:
    """A cluster with these workers, ended at the end."""
    cluster = DaskCluster(folder)
    try:
        for name in workers:
            cluster.add_worker(name)
        yield cluster
    finally:
        cluster.stop()

"""A worker of a fleet: Prefect's process worker, which can be told to take no more runs and to end after its last one.

    python -m prefect_intelligent.capacity.adapters.fleet_worker --folder F --name N --pool P --slots 1 --spawned-s T

A worker of Prefect's that is ended by a signal takes its runs with it. This one does not: SIGTERM, SIGINT and the file
`N.drain` all mean the same, and the process ends when nothing is left that it carries. Polling, claiming, starting
and watching runs are Prefect's own.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS
from prefect.utilities.services import critical_service_loop
from prefect.workers.process import ProcessWorker

from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder, WorkerReport

_LOOK_EVERY_S: Final = 0.25
_AGAIN_S: Final = 5.0
_SERVICE_BACKOFF: Final = 4
_JITTER: Final = 0.3
_LOG = logging.getLogger(__name__)

ALREADY_THERE: Final = 3
"""Exit code if a worker of that name lives."""


class DrainableWorker:
    """Runs a process worker until it has been asked to end and carries no run.

    Args:
        folder: Of the fleet.
        name: Of the worker, there and in Prefect.
        pool: The work pool.
        report: What it says of itself at first.
    """

    def __init__(self, folder: FleetFolder, name: str, pool: str, report: WorkerReport) -> None:
        self._folder, self._name, self._report = folder, name, report
        self._said: WorkerReport | None = None
        self._worker = ProcessWorker(pool, name=name, limit=report.slots, create_pool_if_not_found=False)
        self._polling = False
        self._asked = False

    def drain(self) -> None:
        """Ask it to end."""
        self._asked = True

    async def serve(self) -> None:
        """Work until drained."""
        self._write()
        # Leaving the worker without an error waits for every run, and cuts off nothing of what follows one.
        async with self._worker, anyio.create_task_group() as services:
            beat_s = self._worker.heartbeat_interval_seconds
            poll_s = float(PREFECT_WORKER_QUERY_SECONDS.value())
            services.start_soon(self._serve_for_ever, self._poll, poll_s)
            services.start_soon(self._serve_for_ever, self._worker._sync_and_initialize, beat_s)
            await self._drained()
            services.cancel_scope.cancel()

    async def _serve_for_ever(self, workload: Callable[[], Awaitable[Any]], interval_s: float) -> None:
        """Prefect's loop of a worker; an error that ends it there would take the runs with it."""
        loop = partial(critical_service_loop, interval=interval_s, jitter_range=_JITTER, backoff=_SERVICE_BACKOFF)
        while True:
            try:
                await loop(workload)  # type: ignore[arg-type]
            except Exception:
                _LOG.exception("a service of the worker has ended and is started again")
            await anyio.sleep(_AGAIN_S)

    async def _poll(self) -> None:
        self._polling = True
        try:
            if self._draining():
                return
            await self._worker.get_and_submit_flow_runs()
            if self._report.ready_s is None and self._knows_its_pool():
                now_s = time.time()
                self._report = replace(self._report, ready_s=now_s, idle_since_s=now_s)
        finally:
            self._polling = False

    async def _drained(self) -> None:
        """Wait until it is to end, no poll is under way and no run is left; meanwhile, say how it stands."""
        while True:
            busy, draining = self._worker.limiter.borrowed_tokens, self._draining()
            held = self._report
            idle_since_s = None if busy or held.ready_s is None else held.idle_since_s or time.time()
            self._report = replace(held, busy=busy, draining=draining, idle_since_s=idle_since_s)
            if self._report != self._said:
                self._write()
            if draining and not self._polling and not busy:
                return
            await anyio.sleep(_LOOK_EVERY_S)

    def _knows_its_pool(self) -> bool:
        """Whether the server has answered: before that, polling does nothing."""
        try:
            return bool(self._worker.work_pool)
        except RuntimeError:
            return False

    def _draining(self) -> bool:
        return self._asked or self._folder.is_asked_to_drain(self._name)

    def _write(self) -> None:
        try:
            self._folder.report(self._name, self._report)
            self._said = self._report
        except OSError as error:  # a full disk does not end a run
            _LOG.warning("the worker cannot say how it stands: %s", error)


async def _run(worker: DrainableWorker) -> None:
    import asyncio

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.drain)
    await worker.serve()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m prefect_intelligent.capacity.adapters.fleet_worker")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--spawned-s", type=float, default=time.time())
    args = parser.parse_args(argv)
    folder = FleetFolder(args.folder)
    lock = folder.lock(args.name)
    if not lock.take():
        return ALREADY_THERE
    report = WorkerReport(slots=args.slots, spawned_s=args.spawned_s, pid=os.getpid())
    anyio.run(_run, DrainableWorker(folder, args.name, args.pool, report))
    folder.forget(args.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""A worker that holds a run for its time instead of starting a process: hundreds of runs fit on two cores.

    python -m benchmarks.live.holding_worker --pool POOL --factor 60

It is Prefect's own base worker in all but `run`: it polls, claims and submits as every worker does, so the server
enforces the limits of the pool, its queues and the deployments, and it reports Pending, Running and Completed. A run
holds its slot for the start-up and for the seconds in its parameter `seconds`, counted from the instant at which the
server has made it Pending: the calls in between are part of that time. One that is told to (`calls`, `calls_at`)
creates runs of other deployments after a share of its work and keeps its slot, without working, until they have ended.

Slots of deployments with a limit of their own are leased for five minutes and not renewed here, as Prefect's engine
would: their runs have to be shorter than that by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio
import anyio.abc
import httpx
import numpy as np
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import Abort
from prefect.states import Completed, Running
from prefect.utilities.engine import propose_state
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

SECONDS: Final = "seconds"
"""Name of the parameter of a run that says how long it works, in seconds of the day."""
POLL_JITTER: Final = 0.3
"""The period between two polls is stretched by a factor within 1 +- this, as Prefect's workers do."""
_HEARTBEAT_S: Final = 10.0
_LOOK_S: Final = 0.2
"""Seconds between two looks at runs that have been called."""


class HoldingResult(BaseWorkerResult):
    """The end of a run that was held."""


class HoldingWorker(BaseWorker[BaseJobConfiguration, BaseVariables, HoldingResult]):
    """Holds runs.

    Args:
        work_pool_name: The pool.
        factor: Seconds of the day in a second of the clock.
        startup_s: Seconds of the day from having a slot to running.
        name: Its own name; drawn if None.
        limit: Most runs that it has at once; None for no limit.
        work_queues: Queues that it polls; all if there are none.
    """

    type = "holding"
    job_configuration = BaseJobConfiguration

    def __init__(
        self,
        work_pool_name: str,
        *,
        factor: float = 1.0,
        startup_s: float = 0.0,
        name: str | None = None,
        limit: int | None = None,
        work_queues: Sequence[str] = (),
    ) -> None:
        super().__init__(
            work_pool_name,
            work_queues=list(work_queues) or None,
            name=name,
            limit=limit,
            prefetch_seconds=0,
            create_pool_if_not_found=False,
        )
        self._factor, self._startup_s = factor, startup_s

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> HoldingResult:
        """Hold a run that has just become Pending until its time is over."""
        if task_status is not None:
            task_status.started(str(flow_run.id))
        work_s = float(flow_run.parameters[SECONDS])
        calls = flow_run.parameters.get("calls", ())
        begun_s = await self._slot_taken_s(flow_run) + self._startup_s / self._factor
        with suppress(Abort):  # it has been cancelled meanwhile
            await self._reach(begun_s)
            await propose_state(self.client, Running(), flow_run_id=flow_run.id)
            if calls:
                worked_s = float(flow_run.parameters["calls_at"]) * work_s / self._factor
                await self._reach(begun_s + worked_s)
                await self._call(calls)
                begun_s = time.time() - worked_s
            await self._reach(begun_s + work_s / self._factor)
            await propose_state(self.client, Completed(), flow_run_id=flow_run.id)
        return HoldingResult(status_code=0, identifier=str(flow_run.id))

    async def _call(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Create runs of other deployments, one after the other, and wait until all have ended."""
        left = set()
        for call in calls:
            made = await arun_deployment(
                UUID(call["deployment"]),
                client=self.client,
                parameters={SECONDS: call[SECONDS]},
                flow_run_name=call["name"],
                timeout=0,
                as_subflow=False,
            )
            left.add(made.id)
        while left:
            await anyio.sleep(_LOOK_S)
            found = await self.client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(left))))
            left -= {run.id for run in found if run.state is not None and run.state.is_final()}

    async def _slot_taken_s(self, flow_run: FlowRun) -> float:
        """When the present attempt became Pending, Unix seconds."""
        states = sorted(await self.client.read_flow_run_states(flow_run.id), key=lambda state: state.timestamp)
        taken_s = time.time()
        for state in reversed(states):
            if state.type is not StateType.PENDING:
                break
            taken_s = state.timestamp.timestamp()
        return taken_s

    async def _reach(self, at_s: float) -> None:
        await anyio.sleep(max(0.0, at_s - time.time()))


async def serve(worker: HoldingWorker, poll_s: float, report: Path | None, seed: int) -> None:
    """Poll until cancelled; at the end, write when it has polled.

    A period begins with a poll and not, as in Prefect's loop, after it: what a poll takes would last `factor` times as
    long in the day.

    Args:
        worker: The worker.
        poll_s: Mean seconds between two polls, by the clock.
        report: JSON file for the instants of polls, Unix seconds.
        seed: Of the jitter.
    """
    rng = np.random.default_rng(seed)
    polled: list[float] = []
    next_s = time.time()
    beaten_s = next_s
    try:
        async with worker:
            while True:
                now_s = time.time()
                with suppress(httpx.TransportError, httpx.HTTPStatusError):  # as in Prefect's loop: try again later
                    if now_s - beaten_s > _HEARTBEAT_S:
                        beaten_s = now_s
                        await worker.sync_with_backend()
                    polled.append(time.time())
                    await worker.get_and_submit_flow_runs()
                next_s = max(next_s + poll_s * rng.uniform(1.0 - POLL_JITTER, 1.0 + POLL_JITTER), time.time())
                await anyio.sleep(max(0.0, next_s - time.time()))
    finally:
        if report is not None:
            report.write_text(json.dumps(polled), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; ends by SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live.holding_worker", description=__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--factor", type=float, default=1.0, help="seconds of the day in a second of the clock")
    parser.add_argument("--poll", type=float, default=1.0, metavar="S", help="mean seconds of the day between polls")
    parser.add_argument("--startup", type=float, default=0.0, metavar="S", help="seconds of the day to start a run")
    parser.add_argument("--report", type=Path, help="file for the instants of polls, written at the end")
    parser.add_argument("--seed", type=int, default=0, help="of the jitter of polls")
    parser.add_argument("--name", help="its own name (default: drawn)")
    parser.add_argument("--limit", type=int, help="most runs that it has at once (default: no limit)")
    parser.add_argument("--work-queue", action="append", default=[], help="a queue that it polls (default: all)")
    args = parser.parse_args(argv)
    worker = HoldingWorker(
        args.pool,
        factor=args.factor,
        startup_s=args.startup,
        name=args.name,
        limit=args.limit,
        work_queues=args.work_queue,
    )

    async def until_stopped() -> None:
        serving = asyncio.ensure_future(serve(worker, args.poll / args.factor, args.report, args.seed))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(until_stopped())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Parts of a computation as Prefect task runs on a Dask cluster."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import cloudpickle
from tqdm import tqdm

from prefect_intelligent.errors import MissingExtraError
from rl.parallel.spread import Spread, do_part

R = TypeVar("R")
S = TypeVar("S")

UNDER_WAY: ContextVar[Callable[[], None]] = ContextVar("UNDER_WAY")
"""What the flow of `on_dask` does."""


def on_dask(work: Callable[[Spread], S], name: str, address: str | None = None) -> S:
    """Do some work in a Prefect flow run whose parts are task runs on a Dask cluster.

    A part whose worker dies is done again by another one.

    Args:
        work: Is given the `Spread`.
        name: Of the flow.
        address: Of the cluster's scheduler; a cluster of this machine's cores if None.

    Raises:
        MissingExtraError: prefect-dask is not installed.
    """
    try:
        from prefect import flow, task
        from prefect.cache_policies import NO_CACHE
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise MissingExtraError("training on a Dask cluster", "cluster") from error

    def do(part: bytes) -> bytes:  # a task takes the name of its function, and pickle would look for that in the module
        return do_part(part)

    def spread(function: Callable[..., R], calls: Sequence[tuple[Any, ...]], what: str) -> list[R]:
        part = task(name=what, persist_result=False, cache_policy=NO_CACHE)(do)
        futures = [part.submit(cloudpickle.dumps((function, arguments))) for arguments in calls]
        bar = tqdm(futures, desc=what, unit="part", disable=None)
        return [cast("R", pickle.loads(future.result())) for future in bar]

    runner: Any = DaskTaskRunner(address=address)

    @flow(name=name, task_runner=runner, persist_result=False)
    def on_cluster() -> None:  # it is sent along with every part, so it holds nothing
        from rl.parallel.dask import UNDER_WAY

        UNDER_WAY.get()()

    found: list[S] = []
    before = UNDER_WAY.set(lambda: found.append(work(spread)))
    try:
        on_cluster()
    finally:
        UNDER_WAY.reset(before)
    return found[0]

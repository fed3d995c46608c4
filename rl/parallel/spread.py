"""Independent parts of a computation, in processes of this machine or on a Dask cluster.

A part is a function and its arguments. It travels as bytes, and so does what it returns: machines share no folder. How
a computation is divided does not depend on where its parts are done, so the results do not either.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import cloudpickle
from tqdm import tqdm

R = TypeVar("R")


class Spread(Protocol):
    """Does all parts and returns what they return, in order."""

    def __call__(self, function: Callable[..., R], calls: Sequence[tuple[Any, ...]], what: str) -> list[R]:
        """Call the function with each of the tuples as arguments.

        Args:
            function: What is done; its arguments must not be changed by it.
            calls: The arguments of each part.
            what: Said beside the progress bar, and the name of task runs.
        """
        ...


def here(function: Callable[..., R], calls: Sequence[tuple[Any, ...]], what: str) -> list[R]:
    """A `Spread` that does one part after another in this process."""
    return [function(*arguments) for arguments in tqdm(calls, desc=what, unit="part", disable=None)]


@contextmanager
def in_processes(jobs: int) -> Iterator[Spread]:
    """A `Spread` over so many processes of this machine."""
    if jobs <= 1:
        yield here
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:

        def spread(function: Callable[..., R], calls: Sequence[tuple[Any, ...]], what: str) -> list[R]:
            futures = [pool.submit(do_part, cloudpickle.dumps((function, arguments))) for arguments in calls]
            bar = tqdm(futures, desc=what, unit="part", disable=None)
            return [cast("R", pickle.loads(future.result())) for future in bar]

        yield spread


def do_part(part: bytes) -> bytes:
    """Do a part."""
    function, arguments = pickle.loads(part)
    return cast("bytes", cloudpickle.dumps(function(*arguments)))

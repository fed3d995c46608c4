"""How rules, levers, encoder and guard are run over the pools of a batch: interpreted, or compiled by the twin.

Each is written once, for one pool, as plain Python over columns of numbers: `table[C.WAITING][queue]`. This module
runs such a function over lists. The twin compiles the very same function and announces it here by `use_compiled`; its
environments and a live controller that has loaded it then run the machine code. Nothing in this package needs numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.census import Array

Column = Sequence[float]
"""One figure of every queue of a pool; a list, or a row of an array."""
Table = Sequence[Column]
"""All figures of the queues of a pool, one column per member of `Q`."""
Values = MutableSequence[float]
Numbers = MutableSequence[int]
"""A number per queue that is written."""
Loop = Callable[..., None]

_fast: Final[dict[Loop, Loop]] = {}


def use_compiled(loop: Loop, fast: Loop) -> None:
    """From now on `run` calls `fast` for `loop`; both must compute the same."""
    _fast[loop] = fast


def run_batch(loop: Loop, *given: Any, into: tuple[Any, ...]) -> None:
    """Call `loop(*given, *into)`, which reads the arrays of `given` and writes those of `into`, pool by pool."""
    if loop in _fast:
        _fast[loop](*given, *into)
        return
    found = [array.tolist() for array in into]
    loop(*(_listed(argument) for argument in given), *found)
    for array, values in zip(into, found, strict=True):
        for _ in range(array.ndim - 1):
            values = chain.from_iterable(values)
        array[...] = np.fromiter(values, float, array.size).reshape(array.shape)  # twice as fast as from nested lists


def _listed(argument: Any) -> Any:
    """Arrays as lists, in named tuples too; other things as they are."""
    if isinstance(argument, np.ndarray):
        return argument.tolist()
    if isinstance(argument, tuple) and any(isinstance(part, np.ndarray) for part in argument):
        return type(argument)(*(_listed(part) for part in argument))
    return argument


def columns(queues: Sequence[Sequence[float]]) -> Table:
    """The columns of a pool's rows in `Census.queues`."""
    return list(zip(*queues, strict=True))


def rows(values: npt.ArrayLike, shape: tuple[int, ...], trailing: int) -> Array:
    """Values with the leading dimensions joined into one, the pools of a batch; a view where that is possible.

    Args:
        values: Of that shape, or broadcast to it.
        shape: Of the batch.
        trailing: How many dimensions at the end belong to one pool.
    """
    whole = np.asarray(values, dtype=float)
    if whole.shape != shape:
        whole = np.broadcast_to(whole, shape).copy()
    return np.ascontiguousarray(whole).reshape(-1, *shape[len(shape) - trailing :])


def within(value: float, low: float, high: float) -> float:
    """`value`, moved into its bounds; what is no number stays none."""
    if value < low:
        return low
    return high if value > high else value


def rounded(value: float) -> float:
    """The nearest whole number, the even one of two; what has none stays as it is."""
    return float(round(value)) if math.fabs(value) < 1e15 else value


def ceiling(value: float) -> float:
    """The next whole number above; what has none stays as it is."""
    return float(math.ceil(value)) if math.fabs(value) < 1e15 else value

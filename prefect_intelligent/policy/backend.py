"""Runs rules, actions, encoder and guard over the pools of a batch: interpreted, or compiled by the twin.

Each is written once, for one pool, as plain Python over columns of numbers: `table[C.WAITING][queue]`. This module
runs such a function over lists. The twin compiles the same function and registers it here by `use_compiled`; the twin's
environments, and a live controller that has loaded the twin, then run the machine code. Nothing in this package needs
numba.
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
"""One figure for each queue of a pool; a list, or a row of an array."""
Table = Sequence[Column]
"""All figures of the queues of a pool, one column per member of `Q`."""
Values = MutableSequence[float]
Numbers = MutableSequence[int]
"""A whole number per queue, to be written."""
Loop = Callable[..., None]

_compiled: Final[dict[Loop, Loop]] = {}


def use_compiled(loop: Loop, compiled: Loop) -> None:
    """From now on `run_batch` calls `compiled` for `loop`; both must compute the same."""
    _compiled[loop] = compiled


def run_batch(loop: Loop, *given: Any, into: tuple[Any, ...]) -> None:
    """Call `loop(*given, *into)`, which reads the arrays of `given` and writes those of `into`, pool by pool."""
    if loop in _compiled:
        _compiled[loop](*given, *into)
        return
    results = [array.tolist() for array in into]
    loop(*(_listed(argument) for argument in given), *results)
    for array, values in zip(into, results, strict=True):
        for _ in range(array.ndim - 1):
            values = chain.from_iterable(values)
        array[...] = np.fromiter(values, float, array.size).reshape(array.shape)  # twice as fast as from nested lists


def _listed(argument: Any) -> Any:
    """The argument with arrays as lists, also inside a named tuple."""
    if isinstance(argument, np.ndarray):
        return argument.tolist()
    if isinstance(argument, tuple) and any(isinstance(part, np.ndarray) for part in argument):
        return type(argument)(*(_listed(part) for part in argument))
    return argument


def columns(queues: Sequence[Sequence[float]]) -> Table:
    """The columns of a pool's rows in `Census.queues`."""
    return list(zip(*queues, strict=True))


def rows(values: npt.ArrayLike, shape: tuple[int, ...], trailing: int) -> Array:
    """Values with the leading dimensions, those of the batch, joined into one; a view where that is possible.

    Args:
        values: Of the shape, or broadcast to it.
        shape: Of the batch.
        trailing: Number of dimensions at the end that belong to one pool.
    """
    whole = np.asarray(values, dtype=float)
    if whole.shape != shape:
        whole = np.broadcast_to(whole, shape).copy()
    return np.ascontiguousarray(whole).reshape(-1, *shape[len(shape) - trailing :])


def within(value: float, low: float, high: float) -> float:
    """`value` clipped to its bounds; NaN stays NaN."""
    if value < low:
        return low
    return high if value > high else value


def rounded(value: float) -> float:
    """The nearest whole number, halves to the even one; infinity and NaN are returned as they are."""
    return float(round(value)) if math.fabs(value) < 1e15 else value


def ceiling(value: float) -> float:
    """The smallest whole number that is not smaller; infinity and NaN are returned as they are."""
    return float(math.ceil(value)) if math.fabs(value) < 1e15 else value

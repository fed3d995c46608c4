"""Binary heaps in flat arrays.

`push`, `pop` and `remove` keep numbers of runs, smallest (key, run) first; the keys are in an array of their own,
indexed by run. Several heaps share one array: each begins at its `first` and has room for all runs it can ever hold.

`push_timer` and `pop_timer` keep timers, smallest (at_s, kind, target) first, in an array of their own.

A heap does not know its size: the caller passes the number of elements before the call and keeps count.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.records import F8, I8, Records, dtype_of

RunHeap: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.float64]


class TimerRow(Protocol):
    """A timer.

    Attributes:
        at_s: When it goes off, Unix seconds.
        target: The run or pool that it is for.
        kind: What is then done; a smaller kind goes first at the same instant.
    """

    at_s: F8
    target: I8
    kind: I8


TIMER_DTYPE: Final = dtype_of(TimerRow)


@inlined
def push(heap: RunHeap, first: int, size: int, keys: Keys, run: int) -> None:
    """Add a run to a heap that holds `size` of them."""
    at, key = size, keys[run]
    while at > 0:
        parent = (at - 1) >> 1
        other = heap[first + parent]
        if keys[other] < key or (keys[other] == key and other < run):
            break
        heap[first + at] = other
        at = parent
    heap[first + at] = run


@inlined
def pop(heap: RunHeap, first: int, size: int, keys: Keys) -> int:
    """Take the first run out of a heap that holds `size` of them, and return it."""
    top = int(heap[first])
    _sink(heap, first, size - 1, keys, 0, heap[first + size - 1])
    return top


@compiled
def remove(heap: RunHeap, first: int, size: int, keys: Keys, run: int) -> None:
    """Take out any one run; linear in the size of the heap."""
    at = 0
    while heap[first + at] != run:
        at += 1
    last = heap[first + size - 1]
    if last == run:
        return
    while at > 0:  # move the hole to the top, then sink the last run from there
        parent = (at - 1) >> 1
        heap[first + at] = heap[first + parent]
        at = parent
    _sink(heap, first, size - 1, keys, 0, last)


@compiled
def _sink(heap: RunHeap, first: int, size: int, keys: Keys, at: int, run: int) -> None:
    """Put `run` at the hole `at` or below it in a heap of `size` runs."""
    key = keys[run]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        chosen = heap[first + child]
        if child + 1 < size:
            other = heap[first + child + 1]
            if keys[other] < keys[chosen] or (keys[other] == keys[chosen] and other < chosen):
                child += 1
                chosen = other
        if key < keys[chosen] or (key == keys[chosen] and run < chosen):
            break
        heap[first + at] = chosen
        at = child
    if size > 0:
        heap[first + at] = run


@compiled
def push_timer(timers: Records[TimerRow], size: int, at_s: float, kind: int, target: int) -> None:
    """Add a timer to a heap that holds `size` of them."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        other = timers[parent]
        if other.at_s < at_s or (other.at_s == at_s and (other.kind, other.target) < (kind, target)):
            break
        hole = timers[at]
        hole.at_s, hole.kind, hole.target = other.at_s, other.kind, other.target
        at = parent
    hole = timers[at]
    hole.at_s, hole.kind, hole.target = at_s, kind, target


@compiled
def pop_timer(timers: Records[TimerRow], size: int) -> None:
    """Take the first timer out of a heap that holds `size` of them."""
    last = timers[size - 1]
    at_s, kind, target = last.at_s, last.kind, last.target
    at, size = 0, size - 1
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        chosen = timers[child]
        if child + 1 < size:
            other = timers[child + 1]
            if other.at_s < chosen.at_s or (
                other.at_s == chosen.at_s and (other.kind, other.target) < (chosen.kind, chosen.target)
            ):
                child += 1
                chosen = other
        if at_s < chosen.at_s or (at_s == chosen.at_s and (kind, target) < (chosen.kind, chosen.target)):
            break
        hole = timers[at]
        hole.at_s, hole.kind, hole.target = chosen.at_s, chosen.kind, chosen.target
        at = child
    hole = timers[at]
    hole.at_s, hole.kind, hole.target = at_s, kind, target

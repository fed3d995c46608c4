"""Binary heaps in slices of flat arrays.

`push` and `pop` keep run numbers, smallest (key, run) first; the keys stay in an array of their own that is indexed by
run. All queues of a world share one array: queue q uses `heap[first : first + room]`, as no run ever changes its queue.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefect_intelligent.twin.engine.jit import compiled, inlined

Runs = npt.NDArray[np.int64]
Keys = npt.NDArray[np.float64]


@inlined
def push(heap: Runs, first: int, size: int, keys: Keys, run: int) -> None:
    """Add a run to a heap that holds `size` runs."""
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
def pop(heap: Runs, first: int, size: int, keys: Keys) -> int:
    """Take the first run out of a heap that holds `size` of them, and return it."""
    top = int(heap[first])
    _sink(heap, first, size - 1, keys, 0, heap[first + size - 1])
    return top


@compiled
def remove(heap: Runs, first: int, size: int, keys: Keys, run: int) -> None:
    """Take out any one run; linear in the size of the heap."""
    at = 0
    while heap[first + at] != run:
        at += 1
    last = heap[first + size - 1]
    if last == run:
        return
    while at > 0:  # lift the hole to the top, then let the last one sink from there
        parent = (at - 1) >> 1
        heap[first + at] = heap[first + parent]
        at = parent
    _sink(heap, first, size - 1, keys, 0, last)


@compiled
def _sink(heap: Runs, first: int, size: int, keys: Keys, at: int, run: int) -> None:
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
def push_timer(timers: npt.NDArray[np.void], size: int, at_s: float, kind: int, who: int) -> None:
    """Add a timer to a heap that holds `size`; the earliest is first, ties by kind, then by number."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        other = timers[parent]
        if other.at_s < at_s or (other.at_s == at_s and (other.kind, other.who) < (kind, who)):
            break
        hole = timers[at]
        hole.at_s, hole.kind, hole.who = other.at_s, other.kind, other.who
        at = parent
    hole = timers[at]
    hole.at_s, hole.kind, hole.who = at_s, kind, who


@compiled
def pop_timer(timers: npt.NDArray[np.void], size: int) -> None:
    """Take the first timer out of a heap that holds `size`."""
    last = timers[size - 1]
    at_s, kind, who = last.at_s, last.kind, last.who
    at, size = 0, size - 1
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        chosen = timers[child]
        if child + 1 < size:
            other = timers[child + 1]
            if other.at_s < chosen.at_s or (
                other.at_s == chosen.at_s and (other.kind, other.who) < (chosen.kind, chosen.who)
            ):
                child += 1
                chosen = other
        if at_s < chosen.at_s or (at_s == chosen.at_s and (kind, who) < (chosen.kind, chosen.who)):
            break
        hole = timers[at]
        hole.at_s, hole.kind, hole.who = chosen.at_s, chosen.kind, chosen.who
        at = child
    hole = timers[at]
    hole.at_s, hole.kind, hole.who = at_s, kind, who

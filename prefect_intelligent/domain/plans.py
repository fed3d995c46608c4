"""A plan: an order of queues plus limits; what is written to Prefect is its difference to the settings in force."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from prefect_intelligent.domain.queues import MAX_PRIORITY, QueueSetting
from prefect_intelligent.domain.snapshot import PoolSetting

PRIORITY_GAP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Settings wanted for a pool.

    Attributes:
        order: Queue names, served first comes first. Queues that are not named keep their priority.
        limits: Limit per queue, None for unlimited. Queues that are not named keep their limit.
        pool_limit: Limit of the pool, None for unlimited.
        sets_pool_limit: Whether `pool_limit` is part of the plan at all.
        reasons: Why, one sentence each; shown by `explain`.
    """

    order: tuple[str, ...]
    limits: Mapping[str, int | None] = field(default_factory=dict)
    pool_limit: int | None = None
    sets_pool_limit: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value to write.

    Attributes:
        queue: Name of the queue; None means the pool itself.
        field: Which setting.
        before: What Prefect held when the plan was made.
        after: What to write.
    """

    queue: str | None
    field: Literal["priority", "limit"]
    before: int | None
    after: int | None


def _largest_kept(numbers: Sequence[int], fixed: Set[int]) -> set[int]:
    """Indexes of a largest set of priorities that can be kept while distinct ones are found for all others.

    Numbers `i` and `j > i` can both be kept if at least `j - i - 1` whole numbers lie between them, that is, if
    `number - index` does not fall from `i` to `j`: a longest non-decreasing subsequence (patience sorting, O(n log n)).
    Numbers that cannot be kept together with those at `fixed` are left out; the result then contains all of `fixed`,
    unless those cannot be kept together themselves.
    """
    tails: list[int] = []
    tail_at: list[int] = []
    previous: dict[int, int] = {}
    for index, number in enumerate(numbers):
        key = number - index
        if key < 1 or number > MAX_PRIORITY - (len(numbers) - 1 - index):
            continue
        if any((key - numbers[other] + other) * (index - other) < 0 for other in fixed):
            continue
        place = bisect_right(tails, key)
        if place == len(tails):
            tails.append(key)
            tail_at.append(index)
        else:
            tails[place], tail_at[place] = key, index
        previous[index] = tail_at[place - 1] if place else -1
    kept: set[int] = set()
    at = tail_at[-1] if tail_at else -1
    while at >= 0:
        kept.add(at)
        at = previous[at]
    return kept


def _numbers_between(low: int, high: int, count: int) -> list[int]:
    """`count` distinct whole numbers strictly between `low` and `high`, evenly spread, or sparse at the open end."""
    if high > MAX_PRIORITY and low + PRIORITY_GAP * count <= MAX_PRIORITY:
        return [low + PRIORITY_GAP * (i + 1) for i in range(count)]
    return [low + (i + 1) * (high - low) // (count + 1) for i in range(count)]


def assign_priorities(
    current: Mapping[str, int], order: Sequence[str], fixed: Set[str] = frozenset()
) -> dict[str, int]:
    """Priority numbers that put the queues in `order` while moving as few of them as possible.

    A largest possible set of queues keeps its numbers and the others get numbers between them. Queues of the pool that
    are not in `order` are left alone; where a number of theirs collides, all of `order` is renumbered sparsely.

    Args:
        current: Priority of every queue of the pool.
        order: Queues to put in order; each must be in `current`.
        fixed: Queues whose number must not change. The others are placed around them; where the numbers leave no room
            for that, the others are only put in order among themselves.

    Returns:
        Queue to number, only for queues whose number changes.
    """
    numbers = [current[name] for name in order]
    pinned = {index for index, name in enumerate(order) if name in fixed}
    kept = _largest_kept(numbers, pinned)
    if not pinned <= kept:
        return assign_priorities(current, [name for name in order if name not in fixed])
    taken = {number for name, number in current.items() if name not in set(order)}
    assigned: dict[str, int] = {}
    moving: list[str] = []
    low = 0
    for index in range(len(order) + 1):
        if index < len(order) and index not in kept:
            moving.append(order[index])
            continue
        high = numbers[index] if index < len(order) else MAX_PRIORITY + 1
        fitted = _numbers_between(low, high, len(moving))
        if taken.intersection(fitted):
            if pinned:
                return assign_priorities(current, [name for name in order if name not in fixed])
            return _renumber(current, order, taken)
        assigned.update(zip(moving, fitted, strict=True))
        moving = []
        low = high
    return assigned


def _renumber(current: Mapping[str, int], order: Sequence[str], taken: set[int]) -> dict[str, int]:
    """New sparse numbers for all of `order`, avoiding `taken`."""
    assigned: dict[str, int] = {}
    number = 0
    for name in order:
        number += PRIORITY_GAP
        while number in taken:
            number += 1
        if current[name] != number:
            assigned[name] = number
    return assigned


def diff(
    pool: PoolSetting, queues: Sequence[QueueSetting], plan: Plan, fixed: Set[str] = frozenset()
) -> tuple[Change, ...]:
    """What to write so that Prefect holds `plan`, in the order in which to write it.

    Promotions (smaller numbers) come before demotions, so that an urgent queue moves first; limits that shrink come
    before limits that grow, so that the sum never exceeds what either state allows.

    Queues of the plan that no longer exist are skipped. The `diff` of a plan that is in force already is empty. The
    priorities of the queues in `fixed` do not change.
    """
    settings = {queue.name: queue for queue in queues}
    order = [name for name in plan.order if name in settings]
    current = {name: queue.priority for name, queue in settings.items()}
    priorities = [
        Change(queue=name, field="priority", before=current[name], after=number)
        for name, number in assign_priorities(current, order, fixed).items()
    ]
    priorities.sort(key=lambda c: (_number(c.after) > _number(c.before), _number(c.after)))
    limits = [
        Change(queue=name, field="limit", before=settings[name].limit, after=limit)
        for name, limit in plan.limits.items()
        if name in settings and settings[name].limit != limit
    ]
    if plan.sets_pool_limit and plan.pool_limit != pool.limit:
        limits.append(Change(queue=None, field="limit", before=pool.limit, after=plan.pool_limit))
    shrink = [change for change in limits if _number(change.after) < _number(change.before)]
    grow = [change for change in limits if _number(change.after) >= _number(change.before)]
    return (*shrink, *priorities, *grow)


def _number(value: int | None) -> int:
    """A limit or priority as a number to compare; unlimited is the largest."""
    return MAX_PRIORITY if value is None else value

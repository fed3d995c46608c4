"""Which part of a common share each deployment gets.

A limit that several deployments have in common would go when one of them is deployed or deleted, since Prefect deletes
the limit that a deployment had. So each has its own limit, and its part of the share is set anew in every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one deployment could use.

    Attributes:
        active: Runs that hold a slot.
        waiting: Runs that are due.
        limit: Runs that its owner allows at once; None is no limit.
    """

    active: int
    waiting: int
    limit: int | None = None


def parts_of(most: int, demands: Sequence[Demand]) -> list[int]:
    """Divide `most` slots: runs in flight keep theirs, then one by one to who waits with least, then in turn to all.

    Returns:
        Slots of each deployment: together at most `most`, or the number of runs in flight where that is more, and
        beyond its runs in flight none gets more than its owner allows.
    """
    parts = [demand.active for demand in demands]
    while sum(parts) < most:
        open_ = [row for row, one in enumerate(demands) if one.limit is None or parts[row] < one.limit]
        if not open_:
            break
        wanting = [row for row in open_ if demands[row].active + demands[row].waiting > parts[row]]
        parts[min(wanting or open_, key=lambda row: parts[row])] += 1
    return parts

"""Runs that are made once others have completed, and what those others inherit from them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Final

from prefect_intelligent.domain.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """A run that does not exist yet: it is made once others have completed.

    Attributes:
        run: What is known of it. It may belong to another pool; its `scheduled_s` is when the first of its line was to
            start.
        after: Ids of the runs that have not completed yet and have to; runs of the pool, or other followers.
    """

    run: Run
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a run inherits from those that wait for it.

    Attributes:
        due_s: When it should be finished at the latest so that, by medians, none of them ends late; inf if none can.
        usd_per_hour: Its part of their prices of lateness: each price is divided among the runs that are waited for.
    """

    due_s: float
    usd_per_hour: float


NOTHING: Final = Inherited(due_s=math.inf, usd_per_hour=0.0)


def inherit(followers: Iterable[Follower]) -> dict[str, Inherited]:
    """What each run that is waited for inherits, by id.

    Due instants go backwards along the longest path of medians, as in the critical path method (Kelley and Walker,
    1959); prices are conserved, so that the sum over all runs counts each follower once.

    Raises:
        CycleError: Followers wait for each other (`graphlib`).
    """
    waiting: dict[str, list[Follower]] = defaultdict(list)
    lines = {follower.run.id: follower for follower in followers}
    for follower in lines.values():
        for key in follower.after:
            waiting[key].append(follower)
    last_first = TopologicalSorter({key: [next_.run.id for next_ in waiting[key]] for key in lines}).static_order()
    found: dict[str, Inherited] = {}
    for key in [*last_first, *(key for key in waiting if key not in lines)]:
        due_s, usd_per_hour = math.inf, 0.0
        for follower in waiting.get(key, ()):
            run, own = follower.run, found.get(follower.run.id, NOTHING)
            due_s = min(due_s, (own.due_s if run.due_s is None else min(run.due_s, own.due_s)) - run.estimate.p50_s)
            price = own.usd_per_hour + (0.0 if run.due_s is None else run.late_usd_per_hour)
            usd_per_hour += price / len(follower.after)
        found[key] = Inherited(due_s=due_s, usd_per_hour=usd_per_hour)
    return found

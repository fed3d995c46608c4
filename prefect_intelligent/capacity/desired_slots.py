"""How many slots a pool can use: what its limits let start, of what is there to be started."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_intelligent.domain import Snapshot


def desired_slots(
    snapshot: Snapshot,
    *,
    pool_limit: int | None,
    queue_limits: Mapping[str, int | None] | None = None,
    soon_s: float = 0.0,
) -> int:
    """Slots that the pool can use: runs that hold one, and waiting runs that the limits let start.

    A slot beyond this number would stand idle whatever the limit of the pool is, so it is what capacity that is paid by
    the hour should follow. A run that holds a slot keeps it, also where a limit has fallen below.

    Args:
        snapshot: The pool.
        pool_limit: Its limit in force; None is unlimited.
        queue_limits: Limits in force by queue; what is missing is as in the snapshot.
        soon_s: Runs that are due within so many seconds count as waiting: as long as new capacity takes to come.
    """
    limits = queue_limits or {}
    wanted = 0
    for queue in snapshot.queues:
        active = len(queue.active)
        if queue.setting.paused or snapshot.pool.paused:
            wanted += active
            continue
        soon = sum(run.scheduled_s <= snapshot.at_s + soon_s for run in queue.upcoming)
        demand = active + len(queue.waiting) + queue.beyond + soon
        limit = limits.get(queue.name, queue.setting.limit)
        wanted += demand if limit is None else max(active, min(demand, limit))
    return wanted if pool_limit is None else max(snapshot.active, min(wanted, pool_limit))

"""Which runs of a pool a free slot would start: not those whose deployment is held or at its own limit.

A worker is given such runs all the same, has them refused by Prefect, and starts nothing else with the slot; a queue
that has only such runs is therefore no queue to serve first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prefect_intelligent.steering.adapters.live_runs import RunRecord


def blocked_runs(
    scheduled: Iterable[RunRecord], active: Iterable[RunRecord], slots: Mapping[str, int], now_s: float
) -> set[str]:
    """Ids of the scheduled runs that wait for something else than a slot of the pool.

    Args:
        scheduled: Runs that hold no slot.
        active: Runs that hold one.
        slots: Deployment id to how many of its runs may hold a slot at once; others have no limit, 0 is held.
        now_s: The present instant.
    """
    busy = Counter(run.deployment_id for run in active)
    left = {key: most - busy[key] for key, most in slots.items()}
    blocked: set[str] = set()
    limited = [run for run in scheduled if run.deployment_id in left]
    for run in sorted(limited, key=lambda run: (run.next_s, run.id)):
        assert run.deployment_id is not None
        if run.expected_s > now_s and slots[run.deployment_id] > 0:
            continue  # it is not due yet
        if left[run.deployment_id] > 0:
            left[run.deployment_id] -= 1
        else:
            blocked.add(run.id)
    return blocked


def slots_of(limit: Mapping[str, object] | None, busy: int) -> int | None:
    """How many runs of a deployment may hold a slot at once, by its concurrency limit as the API gives it.

    Args:
        limit: The deployment's `global_concurrency_limit`; None without one.
        busy: Runs of the deployment that hold a slot of it now.
    """
    if limit is None:
        return None
    number, taken = int(str(limit["limit"])), int(str(limit["active_slots"]))
    if not limit.get("active", True):
        return 0
    return max(0, number - max(0, taken - busy))

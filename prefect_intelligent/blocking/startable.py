"""Which runs of a pool a free slot would start: not those whose deployment is held or at its own limit.

A worker is given such runs all the same, has them refused by Prefect, and starts nothing else with the slot; a queue
that has only such runs is therefore no queue to serve first. Steering counts by this, and `why` explains by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from prefect_intelligent.blocking.facts import DeploymentLimit


class LimitedRun(Protocol):
    """What is asked of a run."""

    @property
    def id(self) -> str:
        """Id of the run."""

    @property
    def deployment_id(self) -> str | None:
        """Id of its deployment."""

    @property
    def expected_s(self) -> float:
        """When it was expected to start, Unix seconds."""

    @property
    def next_s(self) -> float:
        """When Prefect serves it at the earliest, Unix seconds."""


def blocked_runs(
    scheduled: Iterable[LimitedRun], active: Iterable[LimitedRun], slots: Mapping[str, int], now_s: float
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


def read_limit(deployment: Mapping[str, object]) -> DeploymentLimit | None:
    """The concurrency limit of a deployment as the API gives it; None without one."""
    limit, options = deployment.get("global_concurrency_limit"), deployment.get("concurrency_options")
    if not isinstance(limit, Mapping):
        return None
    strategy = options.get("collision_strategy") if isinstance(options, Mapping) else None
    return DeploymentLimit(
        limit=int(str(limit["limit"])),
        taken=int(str(limit["active_slots"])),
        enabled=bool(limit.get("active", True)),
        cancels=strategy == "CANCEL_NEW",
    )


def slots_of(limit: DeploymentLimit | None, busy: int) -> int | None:
    """How many runs of a deployment may hold a slot at once; None is unlimited.

    Args:
        limit: The deployment's concurrency limit; None without one.
        busy: Runs of the deployment that hold a slot of it now.
    """
    if limit is None:
        return None
    return max(0, limit.limit - max(0, limit.taken - busy)) if limit.enabled else 0

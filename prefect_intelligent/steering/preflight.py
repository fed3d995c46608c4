"""Checks before steering: known pitfalls of a Prefect pool, its queues, deployments and workers."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prefect_intelligent.blocking.chain import BlockerFinding
from prefect_intelligent.blocking.facts import BlockingFacts
from prefect_intelligent.blocking.pool_reasons import ALIVE_S, unpolled
from prefect_intelligent.blocking.reasons import Reason
from prefect_intelligent.domain import Deployment, PoolSetting, Prices, QueueSetting
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.steering.kill_switch import Position, who_steers

_TOLERATED_SKEW_S: Final = 5.0
_NAMED: Final = 5
"""Reasons that are named one by one."""

Level = Literal["fine", "note", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightResult:
    """Result of one check.

    Attributes:
        level: "fine"; "note": worth knowing; "problem": keeps steering from working.
        what: What was found.
        advice: What to do; empty if there is nothing to do.
    """

    level: Level
    what: str
    advice: str = ""


def check_versions(prefect: str | None, fastapi: str | None) -> PreflightResult:
    """Whether Prefect's server starts with the FastAPI beside it (Prefect 3.8 does not with 0.155 or newer)."""
    if prefect is None:
        return PreflightResult(
            level="problem", what="Prefect is not installed", advice="pip install prefect-intelligent"
        )
    here = f"Prefect {prefect}, FastAPI {fastapi or 'not installed'}"
    if fastapi is not None and _numbers(prefect) < (3, 9) and _numbers(fastapi) >= (0, 155):
        return PreflightResult(
            level="problem",
            what=f"{here}: a Prefect server of this version does not start with this FastAPI",
            advice="pip install 'fastapi<0.151'",
        )
    return PreflightResult(level="fine", what=here)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def check_server(client: str, server: str | None) -> PreflightResult:
    """Whether client and server are of one minor version; Prefect Cloud does not tell its version, which is None."""
    if server is None:
        return PreflightResult(
            level="fine", what="the server answers; it does not tell its version, as Prefect Cloud does not"
        )
    if _numbers(client) != _numbers(server):
        return PreflightResult(
            level="note",
            what=f"the server runs Prefect {server}, we {client}",
            advice="bring them to one minor version",
        )
    return PreflightResult(level="fine", what=f"the server answers and runs Prefect {server}")


def check_settings(
    pool: PoolSetting, queues: Sequence[QueueSetting], worker_slots: int | None = None
) -> list[PreflightResult]:
    """Pitfalls in the settings of the pool and its queues.

    Args:
        pool: Settings of the pool.
        queues: Settings of its queues.
        worker_slots: Runs that all its workers carry at once, if that is known: such a limit does as well.
    """
    found: list[PreflightResult] = []
    if pool.paused or pool.limit == 0:
        found.append(
            PreflightResult(level="note", what="the pool is paused or its limit is 0", advice="steering leaves it so")
        )
    if pool.limit is None and worker_slots is None and all(queue.limit is None for queue in queues):
        found.append(
            PreflightResult(
                level="problem",
                what="neither the pool nor any queue has a limit: order has no effect while everything starts at once",
                advice=f"prefect work-pool set-concurrency-limit {shlex.quote(pool.name)} N, with what your workers "
                "can carry; if workers have a --limit, set pools.NAME.worker_slots to their sum instead",
            )
        )
    by_priority: dict[int, list[str]] = defaultdict(list)
    for queue in queues:
        by_priority[queue.priority].append(queue.name)
    for priority, names in sorted(by_priority.items()):
        if len(names) > 1:
            found.append(
                PreflightResult(
                    level="note",
                    what=f"queues {', '.join(sorted(names))} share priority {priority}: Prefect serves them as one, "
                    "first come, first served",
                    advice="the first decision in mode auto tells them apart",
                )
            )
    paused = sorted(queue.name for queue in queues if queue.paused or queue.limit == 0)
    if paused:
        found.append(
            PreflightResult(
                level="note", what=f"paused or with limit 0: {', '.join(paused)}", advice="steering leaves them so"
            )
        )
    if len(queues) == 1:
        found.append(
            PreflightResult(
                level="problem",
                what="there is one queue only, and within a queue Prefect serves first come, first served",
                advice=f"prefect-intelligent control adopt --pool {pool.name}",
            )
        )
    return found or [PreflightResult(level="fine", what="limits and priorities can be steered")]


def check_deployments(deployments: Sequence[Deployment]) -> list[PreflightResult]:
    """Whether deadlines and prices are known, and runs of different worth are in different queues."""
    if not deployments:
        return [PreflightResult(level="note", what="the pool has no deployments", advice="deploy to it first")]
    found: list[PreflightResult] = []
    silent = [deployment.name for deployment in deployments if not deployment.declared]
    if silent:
        more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        found.append(
            PreflightResult(
                level="note",
                what=f"no deadline or price is known for {', '.join(silent[:3])}{more}",
                advice="decorate the flow with @intelligent(deadline=..., late_usd_per_hour=...)",
            )
        )
    queues: dict[str, set[float]] = defaultdict(set)
    for deployment in deployments:
        queues[deployment.queue].add(deployment.terms.late_usd_per_hour)
    mixed = sorted(queue for queue, prices in queues.items() if len(prices) > 1)
    if mixed:
        found.append(
            PreflightResult(
                level="note",
                what=f"deployments of different worth share the queue {', '.join(mixed)}: they cannot be told apart",
                advice="prefect-intelligent control adopt",
            )
        )
    return found or [PreflightResult(level="fine", what=f"all {len(deployments)} deployments say what they are worth")]


def check_interval(interval_s: float, poll_s: float) -> PreflightResult | None:
    """Whether workers can follow: a decision has no effect before a worker polls; None if they can.

    Args:
        interval_s: Longest time between two decisions, seconds.
        poll_s: Time between two polls of a worker, seconds, as far as the settings know.
    """
    if interval_s >= 2.0 * poll_s:
        return None
    return PreflightResult(
        level="note",
        what=f"a decision every {interval_s:g} s, but workers poll every {poll_s:g} s: most decisions see no effect of "
        "the last one",
        advice=f"set interval_s to {2.0 * poll_s:g} or more, or poll_s of the pool to PREFECT_WORKER_QUERY_SECONDS",
    )


def check_idle_price(limit: int | None, prices: Prices) -> PreflightResult:
    """What unused slots cost, which says whether rules lower the limit of the pool.

    Args:
        limit: Of the pool; None is unlimited.
        prices: Prices of the pool.
    """
    if limit is None or prices.idle_fraction <= 0:
        return PreflightResult(
            level="fine",
            what="nobody has put a price on unused slots (prices.idle_fraction is 0): no rule lowers the pool's limit",
        )
    usd = prices.idle_fraction * prices.slot_usd_per_hour
    return PreflightResult(
        level="fine", what=f"an unused slot costs ${usd:.2f} an hour: rules lower the pool's limit to save it"
    )


def check_regime(outside: Sequence[str]) -> PreflightResult | None:
    """Whether the policy's bundle is run as it was trained and evaluated; None if it is.

    Args:
        outside: In what it is not, a phrase each.
    """
    if not outside:
        return None
    return PreflightResult(
        level="note",
        what=f"the policy is run outside the regime that its figures are of: {'; '.join(outside)}",
        advice="its figures do not hold here; fit one to this pool with `python -m rl.fit`, or set what differs",
    )


def check_steering(position: Position, *, led: bool) -> PreflightResult:
    """Who writes to the pool: the position of its switch, and whether a controller leads it."""
    return PreflightResult(level="fine" if position == "on" else "note", what=who_steers(position, led=led))


def check_workers(facts: BlockingFacts) -> PreflightResult:
    """Whether somebody starts the runs of the pool."""
    if facts.type.endswith((":push", ":managed")):
        kind = "push" if facts.type.endswith(":push") else "managed"
        return PreflightResult(
            level="fine", what=f"a {kind} pool ({facts.type}) needs no worker: Prefect starts its runs"
        )
    for blocker in unpolled(facts):
        return PreflightResult(level="problem", what=blocker.what, advice=blocker.advice)
    polling = sum(facts.at_s - at_s < ALIVE_S for at_s in facts.heartbeats_s)
    return PreflightResult(
        level="fine", what=f"{max(1, polling)} worker{'s poll' if polling > 1 else ' polls'} the pool"
    )


def check_clock(skew_s: float | None) -> PreflightResult | None:
    """Whether this machine's clock agrees with the server's.

    Args:
        skew_s: Seconds by which ours is ahead, measured against the date in the server's answers; None is unknown.

    Returns:
        None if they agree to a few seconds, or if it is not known.
    """
    if skew_s is None or abs(skew_s) < _TOLERATED_SKEW_S:
        return None
    side = "ahead of" if skew_s > 0 else "behind"
    return PreflightResult(
        level="problem",
        what=f"this machine's clock is {describe_span(abs(skew_s))} {side} the Prefect server's: what is late is "
        "judged wrongly by as much",
        advice="set both by NTP, e.g. timedatectl set-ntp true",
    )


def check_waiting(found: Sequence[BlockerFinding]) -> list[PreflightResult]:
    """What keeps due runs from starting until somebody does something."""
    told = []
    for finding in found:
        blocker = finding.blocker
        if blocker.reason in (Reason.NO_WORKER, Reason.AGENT_POOL):  # see `check_workers`
            continue
        runs = f"{finding.runs} runs: " if finding.runs > 1 else ""
        level: Level = "problem" if blocker.kind == "fault" else "note"
        told.append(PreflightResult(level=level, what=f"{runs}{blocker.what}", advice=blocker.advice))
    if len(told) > _NAMED:
        rest = f"{len(told) - _NAMED} more reasons keep runs from starting"
        told[_NAMED:] = [PreflightResult(level="problem", what=rest, advice="prefect-intelligent why RUN")]
    return told


def check_schedules(scheduled: int, idle: Sequence[str]) -> PreflightResult | None:
    """Whether Prefect makes runs of the schedules (a 3.8 server beside SQLAlchemy 2.1 makes none).

    Args:
        scheduled: Deployments that should have upcoming runs.
        idle: Names of those that have none.

    Returns:
        None if nothing is scheduled.
    """
    if not scheduled:
        return None
    if not idle:
        return PreflightResult(level="fine", what=f"Prefect has scheduled runs of all {scheduled} active schedules")
    more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
    what = f"active schedules, no upcoming runs: {', '.join(idle[:3])}{more}"
    if len(idle) < scheduled:
        return PreflightResult(level="note", what=what, advice="see whether their schedules have come to an end")
    return PreflightResult(
        level="problem",
        what=what,
        advice="see that the server's scheduler is on (PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED) and look into its "
        "log; with Prefect 3.8 the server needs 'sqlalchemy<2.1'",
    )

"""Compare the twin with a recorded day: the order in which runs start, and how long they wait.

The twin is given from the record what it is not about: how long each run held its slot, start-up included (of a parent
without the time for which it waited for its children), the period of the polls, and how long after a poll its claims
are made. The comparison is about how slots are assigned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.state import CANCELLED
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec, Runs
from simulations.against_prefect.days import ONE_WORKER, DayPlan
from simulations.against_prefect.recording import POLL_S, RecordedDay

_POLL_JITTER: Final = 0.3
_WORST: Final = {"order_agreement": min, "wait_p50_error": max, "wait_p90_error": max}


def poll_period_s(day: RecordedDay) -> float:
    """Mean seconds between two polls.

    If the worker did not tell when it polled, they come from how long freed slots stayed empty while the last queue had
    a backlog, half a period on average: ends and claims (but the first ones) are matched in order. The time that a
    claim takes is then part of the period.
    """
    if day.poll_s is not None:
        return day.poll_s
    backlog_until = day.claimed_s[day.plan.queue == len(day.plan.queues) - 1].max()
    ends = np.sort(day.ended_s)
    claims = np.sort(day.claimed_s)[day.plan.limit :]
    idle = claims - ends[: len(claims)]
    during = (claims <= backlog_until) & (idle > 0)
    return max(POLL_S, 2.0 * float(idle[during].mean()))


def twin_days(day: RecordedDay, worlds: int, seed: int) -> Twin:
    """The day in the twin, played to its end in so many worlds, with their logs."""
    plan = day.plan
    pool = PoolSpec(
        queues=plan.queues,
        limit=plan.limit,
        max_slots=plan.limit,
        workers=() if plan.workers == (ONE_WORKER,) else plan.workers,
        poll_s=poll_period_s(day),
        poll_jitter=_POLL_JITTER,
        prefetch_s=0.0,
        startup_s=0.0,
        slot_wait_s=plan.slot_wait_s + day.answer_s,
        late_after_s=plan.late_after_s,
        late_loop_s=plan.late_loop_s,
    )
    work, calls_at = _work(day)
    deployments = [replace(each, calls_at=share) for each, share in zip(plan.deployments, calls_at, strict=True)]
    count = len(work)
    runs = Runs(
        deployment=plan.deployment.astype(np.int64),
        scheduled_s=day.scheduled_s,
        known_s=day.scheduled_s,
        work_s=work,
        p50_s=np.maximum(work, 0.1),
        spread=np.zeros(count),
        due_s=np.full(count, np.inf),
        due_within_s=np.full(count, np.inf),
        outcome_source=np.full(count, COMPLETES, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
        calls=plan.calls,
    )
    twin = Twin(stack([build_world([pool], deployments, runs, seed=seed + world) for world in range(worlds)]), log=True)
    twin.finish()
    return twin


def _work(day: RecordedDay) -> tuple[Array, list[float]]:
    """How long each run worked in its slot (as planned if it never had one), and when those of a deployment call.

    In the twin a slot is taken by the poll itself, so runs hold theirs for longer by what a claim takes.
    """
    work = np.where(np.isnan(day.claimed_s), day.plan.seconds, day.ended_s - day.claimed_s) + day.answer_s
    shares: dict[int, list[float]] = {}
    for parent in np.unique(day.plan.calls[:, 0]):
        children = day.plan.calls[day.plan.calls[:, 0] == parent, 1]
        called_s, back_s = day.scheduled_s[children].min(), day.ended_s[children].max()
        work[parent] -= back_s - called_s
        shares.setdefault(int(day.plan.deployment[parent]), []).append(
            float((called_s - day.claimed_s[parent] + day.answer_s) / work[parent])
        )
    return work, [
        float(np.mean(shares[number])) if number in shares else each.calls_at
        for number, each in enumerate(day.plan.deployments)
    ]


def offered_s(twin: Twin) -> Array:
    """When a worker first took each run from its queue, shape (worlds, runs); `nan` if none ever did."""
    out = np.full(twin.state.runs.shape, np.nan)
    for row in range(twin.n_worlds):
        log = twin.log(row)
        cancelled = (log["kind"] == event_log.DONE) & (log["where"] == CANCELLED)
        taken = log[np.isin(log["kind"], (event_log.CLAIMED, event_log.BOUNCED)) | cancelled]
        runs, first = np.unique(taken["run"], return_index=True)
        out[row, runs] = taken["at_s"][first]
    return out


def agreement(day: RecordedDay, offered: Array) -> float:
    """Share of pairs that workers take in the same order in the twin, of pairs whose order Prefect determines; 0 to 1.

    It determines the order of two runs that both waited when the first of them was taken, that were taken by different
    polls, and that are in one queue, or in queues without limits of which the one that comes first has all the workers
    of the other. In which order runs of a full deployment get its slot when they ask again is not determined: they ask
    at once. Neither is it for runs that parents have created within two polls of each other, or for runs that a full
    deployment may cancel.

    Args:
        day: The recorded day.
        offered: When a worker first took each run in the twin, shape (worlds, runs).
    """
    count = len(day.plan.deployment)
    first, second = (side.ravel() for side in np.meshgrid(np.arange(count), np.arange(count), indexing="ij"))
    both_waited = day.scheduled_s[second] < day.offered_s[first] - 2 * POLL_S
    apart = day.offered_s[second] - day.offered_s[first] > 0.7 * POLL_S
    queue = day.plan.queue
    comparable = _comparable(day.plan)[queue[first], queue[second]]
    near = np.abs(day.scheduled_s[first] - day.scheduled_s[second]) < 2 * POLL_S
    siblings = _parent(day.plan)[first] == _parent(day.plan)[second]
    known = both_waited & apart & comparable & (siblings | ~near | (queue[first] != queue[second]))
    known &= ~(_cancels(day.plan)[first] | _cancels(day.plan)[second])
    same = offered[:, first[known]] <= offered[:, second[known]]
    return float(same.mean())


def _comparable(plan: DayPlan) -> npt.NDArray[np.bool_]:
    """Whether Prefect determines the order of runs of two queues, shape (queues, queues)."""
    polled = [{w.name for w in plan.workers if not w.queues or queue.name in w.queues} for queue in plan.queues]
    out = np.eye(len(plan.queues), dtype=bool)
    for one, queue in enumerate(plan.queues):
        for other, behind in enumerate(plan.queues):
            free = queue.limit is None and behind.limit is None
            ahead, after = (one, other) if queue.priority < behind.priority else (other, one)
            out[one, other] |= free and polled[ahead] >= polled[after]
    return out


def _parent(plan: DayPlan) -> npt.NDArray[np.int64]:
    """The parent of each run; -1 for none."""
    out = np.full(len(plan.deployment), -1)
    out[plan.calls[:, 1]] = plan.calls[:, 0]
    return out


def _cancels(plan: DayPlan) -> npt.NDArray[np.bool_]:
    """Runs that a full deployment cancels."""
    return np.array([each.cancels_new for each in plan.deployments])[plan.deployment]


def compare(day: RecordedDay, worlds: int = 200, seed: int = 0) -> dict[str, float]:
    """Figures of the comparison: agreement of order, and relative errors of the p50 and p90 of the waiting time.

    `*_spread` is the relative standard deviation of a quantile over the twin's days: the part of an error that is
    noise. `limited_wait_s` is the mean wait of runs whose deployment has a limit at which they wait;
    `cancelled_agreement` is the share of runs that are cancelled in both or in neither, of those that may be.
    """
    twin = twin_days(day, worlds, seed)
    own = twin.state.runs[:, : len(day.plan.deployment)]
    figures = {"order_agreement": agreement(day, offered_s(twin))}
    real = np.maximum(day.claimed_s - day.scheduled_s, 0.0)
    modelled = np.maximum(own["first_claimed_s"] - own["scheduled_s"], 0.0) + day.answer_s
    for name, share in (("p50", 0.5), ("p90", 0.9)):
        truth = float(np.nanquantile(real, share))
        days = np.nanquantile(modelled, share, axis=1)
        mean = float(days.mean())
        figures[f"wait_{name}_s"] = truth
        figures[f"twin_wait_{name}_s"] = mean
        figures[f"wait_{name}_error"] = abs(mean - truth) / truth
        figures[f"wait_{name}_spread"] = float(days.std() / mean)
    limited = np.array([each.limit is not None and not each.cancels_new for each in day.plan.deployments])
    if (held := limited[day.plan.deployment]).any():
        figures["limited_wait_s"], figures["twin_limited_wait_s"] = (
            float(real[held].mean()),
            float(modelled[:, held].mean()),
        )
    if (may := _cancels(day.plan)).any():
        same = (own["phase"] == CANCELLED) == np.isnan(day.claimed_s)
        figures["cancelled"] = float(np.isnan(day.claimed_s).sum())
        figures["twin_cancelled"] = float((own["phase"] == CANCELLED).sum(axis=1).mean())
        figures["cancelled_agreement"] = float(same[:, may].mean())
    return figures


def worst(days: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The worst of each figure that is to hold on every day, then all figures of all days by `day_figure`."""
    out = {name: choose(figures[name] for figures in days.values()) for name, choose in _WORST.items()}
    return out | {f"{day}_{name}": value for day, figures in days.items() for name, value in figures.items()}

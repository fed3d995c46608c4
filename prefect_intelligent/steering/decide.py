"""The pure part of a pass: from a snapshot and the controller's state to what should be written, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from prefect_intelligent.capacity.desired_slots import desired_slots
from prefect_intelligent.domain import Change, Plan, QueueState, Snapshot, diff
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.policy.base import Policy, Proposal, to_plan
from prefect_intelligent.policy.census import Census, Q, take_census
from prefect_intelligent.policy.guard import Permitted, permit
from prefect_intelligent.policy.guard_state import GuardSettings, GuardState, sentences
from prefect_intelligent.steering.controller_state import ControllerState, dump_guard_state, restore_guard_state
from prefect_intelligent.steering.cost_rate import current_cost_rate
from prefect_intelligent.steering.decision_record import Decision, Outcome, PoolDecision, QueueDecision, QueueTarget
from prefect_intelligent.steering.identity import ids_of
from prefect_intelligent.steering.lookahead import LookAhead
from prefect_intelligent.steering.manual_overrides import (
    KnownSettings,
    ManualOverride,
    SettingKey,
    SettingValues,
    describe,
    detect_overrides,
    key_of,
    values_of,
)
from prefect_intelligent.steering.plan_check import PlanAssessment, assess_plan

Mode = Literal["shadow", "advise", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBounds:
    """How far a limit may go.

    Attributes:
        least: At least so many runs.
        most: At most so many; None is no bound.
    """

    least: int = 1
    most: int | None = None

    def of_pool(self, given: int | None) -> tuple[float, float]:
        """Least and largest limit of a pool to which people have given so many slots (None is unlimited)."""
        most = given if self.most is None else self.most
        return float(self.least), math.inf if most is None else float(max(most, self.least))


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    """Configuration of a controller.

    Attributes:
        policy: Decides.
        rule: The base rule: the fallback, and what each decision is compared with.
        mode: shadow records decisions, advise also sends them as events, auto also writes them to Prefect.
        guard: What is permitted; bounds and pins are filled in for each pass.
        pool_bounds: Bounds of the pool limit. Without `most` the pool never gets more than people have given it.
        queue_bounds: Bounds of single queues, by name.
        hold_s: How long a value that a person has set is left alone.
        by: Name of the process that decides, for the record.
        look_ahead: Asks the twin before a plan other than the rule's is followed; None does not ask.
        mend_claims: Whether a pass in mode auto also mends claims on deployments; a hook has no time for it.
        boot_s: Seconds until capacity that is asked for is there; runs due by then count among the wanted slots.
    """

    policy: Policy
    rule: Policy
    mode: Mode = "auto"
    guard: GuardSettings = field(default_factory=GuardSettings)
    pool_bounds: LimitBounds = field(default_factory=LimitBounds)
    queue_bounds: Mapping[str, LimitBounds] = field(default_factory=dict)
    hold_s: float = 86_400.0
    by: str = "controller"
    look_ahead: LookAhead | None = None
    mend_claims: bool = True
    boot_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPass:
    """What a pass would do.

    Attributes:
        snapshot: What it was made from.
        census: The snapshot's figures.
        values: Every value that Prefect holds.
        overrides: Which of them a person has set.
        wanted: The policy's plan; None if its proposal was unusable.
        rule: The base rule's plan after the guard.
        plan: What is permitted.
        changes: What to write.
        reasons: What applies to the pass as a whole.
        permitted: The guard's answer.
        guard_before: The guard's state before it answered.
        assessment: Why the policy departs from the rule, and what the twin expects of it.
    """

    snapshot: Snapshot
    census: Census
    values: SettingValues
    overrides: Mapping[SettingKey, ManualOverride]
    wanted: Plan | None
    rule: Plan
    plan: Plan
    changes: tuple[Change, ...]
    reasons: tuple[str, ...]
    permitted: Permitted
    guard_before: GuardState
    assessment: PlanAssessment

    def next_state(
        self, state: ControllerState, *, values: SettingValues, pending: SettingValues, written: Iterable[Change]
    ) -> ControllerState:
        """The state for the next pass.

        Args:
            state: From the last pass.
            values: What Prefect holds now.
            pending: Values whose writing is not confirmed.
            written: The changes that were made: only those start the guard's interval.
        """
        names = [queue.name for queue in self.snapshot.queues]
        keys = {key_of(change) for change in written}
        return replace(
            state,
            passes=state.passes + 1,
            known=KnownSettings(values=values, pending=pending, overrides=self.overrides),
            guard=dump_guard_state(self.guard_before, self.permitted.state, names, keys),
            chosen=self.assessment.chosen,
            ids=ids_of(self.snapshot.pool, (queue.setting for queue in self.snapshot.queues)),
        )


def decide(
    snapshot: Snapshot,
    config: ControllerConfig,
    state: ControllerState,
    baseline: SettingValues,
    *,
    enabled: bool,
    age_s: float,
) -> PlannedPass:
    """Decide what to write.

    Args:
        snapshot: The pool as it is.
        config: The controller's configuration.
        state: From the last pass.
        baseline: What people gave the pool, for the values that steering has changed.
        enabled: False while steering is switched off.
        age_s: Seconds since the snapshot was taken.
    """
    values = values_of(snapshot.pool, (queue.setting for queue in snapshot.queues))
    overrides = detect_overrides(state.known, values, snapshot.at_s, config.hold_s)
    settings = _guard_settings(config, snapshot, overrides, baseline, enabled)
    census = take_census(snapshot, float(settings.pool_max))
    guard_before = restore_guard_state(state, [queue.name for queue in snapshot.queues], census, snapshot.at_s)
    for row, queue in enumerate(snapshot.queues):
        if (queue.name, "limit") in overrides:
            guard_before.own_limit[row] = census[Q.LIMIT][row]
    proposal, problem = _propose(config.policy, census)
    base, _ = _propose(config.rule, census)
    wanted = proposal
    assessment = PlanAssessment()
    if problem is None and enabled:
        assessment = assess_plan(
            config.policy, config.rule, config.look_ahead, snapshot, census, settings, state.chosen
        )
        proposal = assessment.replacement or proposal

    def guarded(wanted: Proposal) -> Permitted:
        return permit(wanted, census, guard_before, settings, now_s=snapshot.at_s, age_s=age_s, fallback=base)

    permitted = guarded(proposal)
    plan = to_plan(snapshot, permitted.proposal)
    pinned = {queue for queue, which in overrides if queue is not None and which == "priority"}
    keeps_order = np.array_equal(proposal.score, -census[Q.RANK])
    if enabled and not keeps_order:
        plan = replace(plan, order=_give_way(plan.order, snapshot))
    if keeps_order and plan.order == snapshot.order:
        # the policy keeps the order in force: queues that share a priority go on sharing it
        pinned |= set(snapshot.order)
    changes = diff(snapshot.pool, [queue.setting for queue in snapshot.queues], plan, pinned)
    return PlannedPass(
        snapshot=snapshot,
        census=census,
        values=values,
        overrides=overrides,
        wanted=to_plan(snapshot, wanted) if problem is None else None,
        rule=to_plan(snapshot, guarded(base).proposal),
        plan=plan,
        changes=tuple(change for change in changes if key_of(change) not in overrides),
        reasons=(problem,) if problem else assessment.reasons,
        permitted=permitted,
        guard_before=guard_before,
        assessment=assessment,
    )


def _give_way(order: tuple[str, ...], snapshot: Snapshot) -> tuple[str, ...]:
    """The order with queues of which no due run can start behind the last one of which some can.

    A worker is given their runs first, Prefect refuses them, and the slot stays empty until the next poll. The guard
    does not move such a queue, since nothing in it would be served sooner or later for that.
    """
    waiting = {queue.name for queue in snapshot.queues if queue.waiting}
    blocked = {queue.name for queue in snapshot.queues if queue.blocked and not queue.waiting}
    last = max((place for place, name in enumerate(order) if name in waiting), default=-1)
    ahead = [name for name in order[: last + 1] if name in blocked]
    return (*(name for name in order[: last + 1] if name not in ahead), *ahead, *order[last + 1 :])


def _propose(policy: Policy, census: Census) -> tuple[Proposal, str | None]:
    """The policy's proposal; if it has none, a proposal that the guard refuses, and what went wrong."""
    try:
        proposal = policy.propose(census)
    except Exception as error:  # a policy may be a user's own code: whatever it raises, the fallback decides
        problem = f"policy {policy.name!r} failed: {type(error).__name__}: {error}"
        nothing = np.full(census[Q.LIMIT].shape, math.nan)
        return Proposal(nothing, nothing, np.asarray(math.nan)), problem
    there = census.present
    fine = np.isfinite(proposal.score[there]).all() and (proposal.limit[there] >= 0).all() and proposal.pool_limit >= 0
    return proposal, None if fine else f"policy {policy.name!r} proposed a value that is no number"


def _guard_settings(
    config: ControllerConfig,
    snapshot: Snapshot,
    overrides: Mapping[SettingKey, ManualOverride],
    baseline: SettingValues,
    enabled: bool,
) -> GuardSettings:
    """The guard's settings with the bounds and the pins of this pass."""
    names = [queue.name for queue in snapshot.queues]
    bounds = [config.queue_bounds.get(name) for name in names]
    guard = config.guard
    queue_min = np.broadcast_to(np.asarray(guard.queue_min, dtype=float), (len(names),)).copy()
    queue_max = np.broadcast_to(np.asarray(guard.queue_max, dtype=float), (len(names),)).copy()
    for index, own in enumerate(bounds):
        if own is not None:
            queue_min[index] = own.least
            queue_max[index] = math.inf if own.most is None else own.most
    least, most = config.pool_bounds.of_pool(baseline.get((None, "limit"), snapshot.pool.limit))
    if snapshot.held_by_parents:  # they hold their slots until the runs that they wait for have had some
        least = min(most, max(least, float(snapshot.pool.limit or 0)))
    return replace(
        guard,
        enabled=guard.enabled and enabled,
        queue_min=queue_min,
        queue_max=np.maximum(queue_max, queue_min),
        pool_min=least,
        pool_max=most,
        order_pinned=np.array([(name, "priority") in overrides for name in names], dtype=bool),
        limit_pinned=np.array([(name, "limit") in overrides for name in names], dtype=bool),
        pool_pinned=(None, "limit") in overrides,
    )


def build_record(
    planned: PlannedPass,
    config: ControllerConfig,
    applied: tuple[Change, ...],
    outcome: Outcome,
    problems: tuple[str, ...],
) -> Decision:
    """The decision as it is recorded, without the time that it took."""
    snapshot = planned.snapshot
    after = dict(planned.values) | {key_of(change): change.after for change in applied}
    order_after = sorted(
        (queue.name for queue in snapshot.queues), key=lambda name: (after[name, "priority"] or 0, name)
    )
    rows = {queue.name: row for row, queue in enumerate(snapshot.queues)}
    order = snapshot.order

    def queue_decision(queue: QueueState) -> QueueDecision:
        name, row = queue.name, rows[queue.name]
        return QueueDecision(
            name=name,
            waiting=int(planned.census[Q.WAITING][row]),
            active=len(queue.active),
            late=int(planned.census[Q.LATE][row]),
            held=QueueTarget(place=order.index(name) + 1, limit=queue.setting.limit),
            priority=queue.setting.priority,
            wanted=None if planned.wanted is None else _target(planned.wanted, name),
            permitted=_target(planned.plan, name),
            rule=_target(planned.rule, name),
            applied=QueueTarget(place=order_after.index(name) + 1, limit=after[name, "limit"]),
            applied_priority=after[name, "priority"] or 0,
            reasons=(
                *_waiting_summary(queue, planned.census, row, snapshot.at_s),
                *planned.assessment.by_queue.get(name, ()),
                *sentences(int(planned.permitted.queue_notes[row])),
                *_override_reasons(name, planned.overrides),
            ),
        )

    return Decision(
        pool=snapshot.pool.name,
        at_s=snapshot.at_s,
        mode=config.mode,
        by=config.by,
        policy=config.policy.name,
        rule=config.rule.name,
        outcome=outcome,
        queues=tuple(queue_decision(snapshot.queues[rows[name]]) for name in order),
        pool_limit=PoolDecision(
            held=snapshot.pool.limit,
            wanted=None if planned.wanted is None else planned.wanted.pool_limit,
            permitted=planned.plan.pool_limit,
            rule=planned.rule.pool_limit,
            applied=after[None, "limit"],
            reasons=(
                *planned.assessment.by_queue.get(None, ()),
                *sentences(int(planned.permitted.pool_notes)),
                *_override_reasons(None, planned.overrides),
                *(("every slot is held by a parent that waits: not lowered",) if snapshot.held_by_parents else ()),
            ),
        ),
        planned=tuple((c.queue, c.field, c.before, c.after) for c in planned.changes),
        applied=tuple((c.queue, c.field, c.before, c.after) for c in applied),
        reasons=(*planned.reasons, *problems),
        foreseen=planned.assessment.foreseen,
        stakes=current_cost_rate(snapshot),
        desired_slots=desired_slots(
            snapshot,
            pool_limit=after[None, "limit"],
            queue_limits={queue.name: after[queue.name, "limit"] for queue in snapshot.queues},
            soon_s=config.boot_s,
        ),
    )


def _target(plan: Plan, name: str) -> QueueTarget:
    return QueueTarget(place=plan.order.index(name) + 1, limit=plan.limits[name])


def _waiting_summary(queue: QueueState, census: Census, row: int, at_s: float) -> tuple[str, ...]:
    """What the queue's place depends on, in words."""
    blocked = (f"{queue.blocked} cannot start: their deployment is held or at its limit",) if queue.blocked else ()
    if not queue.waiting:
        if not queue.upcoming:
            return ("nothing waits", *blocked)
        next_s = max(0.0, queue.upcoming[0].scheduled_s - at_s)
        return (f"nothing waits; the next run is scheduled in {describe_span(next_s)}", *blocked)
    slack, price = float(census[Q.URGENT_SLACK_S][row]), float(census[Q.URGENT_USD_PER_HOUR][row])
    if math.isinf(slack):
        return (f"{len(queue.waiting)} wait, none has a deadline", *blocked)
    when = f"can wait {describe_span(slack)} more" if slack >= 0 else f"will be {describe_span(-slack)} late"
    return (f"{len(queue.waiting)} wait; the most urgent {when} at ${price:g} per hour late", *blocked)


def _override_reasons(queue: str | None, overrides: Mapping[SettingKey, ManualOverride]) -> tuple[str, ...]:
    return tuple(
        f"{describe(key)} was set by a person to {'unlimited' if found.value is None else found.value}; left alone for "
        f"{describe_span(found.until_s - found.since_s)} or until `control release`"
        for key, found in overrides.items()
        if key[0] == queue
    )

"""Which action follows each failed check, from recording it to blocking the dataset. No I/O.

A contract may declare an action per check. Without one, the action follows from the severity and from whether the
failing rows are known. An action that is impossible or would exceed a budget is replaced by BLOCK: data that is not
known to be good is not passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.quality.model import (
    QUARANTINE_ACTIONS,
    REPAIR_ACTIONS,
    CheckOutcome,
    CheckResult,
    RemediationAction,
    Severity,
    Verdict,
    Verification,
)


class BudgetExceededError(PrefectIntelligentError, RuntimeError):
    """More rows would be quarantined than are allowed; nothing was changed.

    Args:
        rows: Rows that would be quarantined.
        allowed: Rows that may be.
    """

    def __init__(self, rows: int, allowed: int) -> None:
        self.rows, self.allowed = rows, allowed
        super().__init__(f"{rows} rows would be quarantined, {allowed} are allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationPolicy:
    """Limits of automatic remediation.

    Attributes:
        budget_percent: Share of the rows that may be quarantined after one verification, 0 to 100; more is a BLOCK.
        retries: How often the run that made the data may be retried.
        open_after: Consecutive failures after which the circuit breaker of a dataset opens; 0 is never.
        probe_after_s: Seconds after which an open circuit breaker lets one attempt through.
        downstream: Deployments ("flow/deployment") to hold while the dataset is blocked.
    """

    budget_percent: float = 5.0
    retries: int = 1
    open_after: int = 3
    probe_after_s: float = 3600.0
    downstream: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.budget_percent <= 100:
            raise InvalidInputError("budget_percent", self.budget_percent, "must be from 0 to 100")
        for name in ("retries", "open_after", "probe_after_s"):
            if getattr(self, name) < 0:
                raise InvalidInputError(name, getattr(self, name), "must not be negative")


class CircuitState(StrEnum):
    """State of a dataset's circuit breaker: whether it may be remedied automatically."""

    CLOSED = "closed"
    OPEN = "open"  # too many consecutive failures: block only
    HALF_OPEN = "half-open"  # open for `probe_after_s`: one attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationStep:
    """The action for one check.

    Attributes:
        check: Id of the check; "" for an error of the checker.
        action: What to do.
        reason: Why this action.
        rows: Failing rows; None if the action is about the whole dataset.
    """

    check: str
    action: RemediationAction
    reason: str
    rows: int | None = None

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"check": self.check, "action": str(self.action), "reason": self.reason, "rows": self.rows}


def default_action(check: CheckResult) -> RemediationAction:
    """The action for a failed check whose contract declares none.

    Minor failures warn. Duplicates are reduced to one row of each key. Known failing rows are quarantined, unless the
    check is critical. Everything else blocks.
    """
    if check.severity is Severity.MINOR:
        return RemediationAction.WARN
    if check.rows is None or check.severity is Severity.CRITICAL:
        return RemediationAction.BLOCK
    return RemediationAction.DEDUPE if check.rows.keys else RemediationAction.QUARANTINE


def plan_steps(
    verification: Verification, policy: RemediationPolicy, circuit: CircuitState
) -> tuple[RemediationStep, ...]:
    """One step for each check that failed or warned, mildest action first.

    A verification with verdict ERROR gets a single BLOCK: nothing is known about the data, so nothing is changed.
    """
    if verification.verdict is Verdict.ERROR:
        return (RemediationStep(check="", action=RemediationAction.BLOCK, reason="the checker could not do its work"),)
    steps = [_step(check, verification.rows_tested) for check in verification.failed()]
    steps += [
        RemediationStep(check=c.id, action=RemediationAction.WARN, reason="warning threshold", rows=c.rows_failed)
        for c in verification.checks
        if c.outcome is CheckOutcome.WARNED
    ]
    if circuit is CircuitState.OPEN:
        steps = [
            RemediationStep(
                check=s.check,
                action=RemediationAction.BLOCK,
                reason=f"the circuit is open (else {s.action})",
                rows=s.rows,
            )
            if s.action not in (RemediationAction.OBSERVE, RemediationAction.WARN)
            else s
            for s in steps
        ]
    order = list(RemediationAction)
    return tuple(sorted(_within_budget(steps, verification, policy), key=lambda s: order.index(s.action)))


def _step(check: CheckResult, rows_tested: int | None) -> RemediationStep:
    action, reason = check.action, "declared by the contract"
    if action is None:
        action, reason = default_action(check), f"default for a {check.severity} {check.kind} check"
    obstacle = _obstacle(check, action, rows_tested)
    if obstacle:
        action, reason = RemediationAction.BLOCK, f"{obstacle} (else {action})"
    return RemediationStep(check=check.id, action=action, reason=reason, rows=check.rows_failed)


def _obstacle(check: CheckResult, action: RemediationAction, rows_tested: int | None) -> str:
    """Why an action cannot be taken for a check; "" if it can."""
    if action in REPAIR_ACTIONS | QUARANTINE_ACTIONS and check.rows is None:
        return "the failing rows are not known"
    if action in REPAIR_ACTIONS and (check.column is None or (check.rows and check.rows.keys)):
        return "only values of one column can be repaired"
    if action is RemediationAction.DEDUPE and not (check.rows and check.rows.keys):
        return "not a duplicate check"
    budget = check.parameters.get("budget_percent")
    if action in QUARANTINE_ACTIONS and budget is not None and _percent(check.rows_failed, rows_tested) > float(budget):
        return f"{check.rows_failed} rows exceed the check's budget of {budget} %"
    return ""


def _within_budget(
    steps: list[RemediationStep], verification: Verification, policy: RemediationPolicy
) -> Iterable[RemediationStep]:
    """Replace quarantine actions by BLOCK if the largest of them exceeds the budget.

    The budget for all of them together is enforced by the editor, which knows which rows fail several checks.
    """
    largest = max((step.rows or 0 for step in steps if step.action in QUARANTINE_ACTIONS), default=0)
    percent = _percent(largest, verification.rows_tested)
    for step in steps:
        if step.action in QUARANTINE_ACTIONS and percent > policy.budget_percent:
            reason = (
                f"{percent:.3g} % of the rows exceed the budget of {policy.budget_percent:g} % (else {step.action})"
            )
            yield RemediationStep(check=step.check, action=RemediationAction.BLOCK, reason=reason, rows=step.rows)
        else:
            yield step


def _percent(part: int | None, whole: int | None) -> float:
    return 100.0 * (part or 0) / whole if whole else (100.0 if part else 0.0)


def circuit_state(
    records: Iterable[Mapping[str, Any]], policy: RemediationPolicy, now_s: float
) -> tuple[CircuitState, int]:
    """State of a dataset's circuit breaker, and its consecutive failures.

    Args:
        records: Past results, oldest first, with `run_id`, `at_s`, `circuit` and `good`: whether the data could be
            used in the end; None (the checker failed) is ignored. Of several results of one run the last one counts.
            Data that was blocked because the circuit was open is not counted: no attempt was made.
        policy: When to open and when to probe.
        now_s: The present, Unix seconds.
    """
    failures, since_s = 0, 0.0
    last_of_run = {record.get("run_id") or i: record for i, record in enumerate(records)}
    for record in last_of_run.values():
        if record["good"] is False and record.get("circuit") == CircuitState.OPEN:
            continue
        if record["good"] is False:
            failures, since_s = failures + 1, float(record["at_s"])
        elif record["good"]:
            failures = 0
    if not policy.open_after or failures < policy.open_after:
        return CircuitState.CLOSED, failures
    probing = now_s - since_s >= policy.probe_after_s
    return (CircuitState.HALF_OPEN if probing else CircuitState.OPEN), failures


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEdit:
    """A change of rows or values that a step asks for.

    Attributes:
        check: The failed check.
        action: One of `REPAIR_ACTIONS` or `QUARANTINE_ACTIONS`.
    """

    check: CheckResult
    action: RemediationAction


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """What a set of edits did, or would do in a dry run.

    Attributes:
        quarantined: Rows moved to quarantine.
        repaired: Rows in which a value was changed; the original rows are copied to quarantine.
        by_check: Edited rows by check id.
        quarantine: Location of the quarantine, for people.
        data: The edited frame, if the dataset is a frame; None otherwise.
    """

    quarantined: int = 0
    repaired: int = 0
    by_check: Mapping[str, int] = field(default_factory=dict)
    quarantine: str = ""
    data: Any = field(default=None, repr=False, compare=False)


def required_edits(verification: Verification, steps: Iterable[RemediationStep]) -> tuple[RowEdit, ...]:
    """The edits that the steps ask for; repairs come first, so that a repaired row is not quarantined."""
    by_id = {check.id: check for check in verification.checks}
    edits = [s for s in steps if s.action in REPAIR_ACTIONS | QUARANTINE_ACTIONS]
    edits.sort(key=lambda step: (step.action in QUARANTINE_ACTIONS, step.action is RemediationAction.DEDUPE))
    return tuple(RowEdit(check=by_id[step.check], action=step.action) for step in edits)

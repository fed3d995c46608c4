"""What happens after a check has failed: the ladder from "record it" to "block everything downstream".

Pure decisions. A contract may declare an action per check; what it leaves open follows from the severity and from
whether the failing rows are known. An action that cannot be taken, or that would exceed a budget, gives way to BLOCK:
data that is not known to be good is not passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.quality.model import REPAIRS, SPLITS, Action, Check, Outcome, Severity, Verdict, Verification


class BudgetExceededError(PrefectIntelligentError, RuntimeError):
    """More rows would go to quarantine than is allowed; nothing was changed.

    Args:
        rows: How many.
        allowed: How many would have been accepted.
    """

    def __init__(self, rows: int, allowed: int) -> None:
        self.rows, self.allowed = rows, allowed
        super().__init__(f"{rows} rows would be quarantined, {allowed} are allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationPolicy:
    """The limits of what may be done without asking.

    Attributes:
        budget_percent: Rows of one verification that may be moved to quarantine, in percent; more is a BLOCK.
        retries: How often one producing run may be run again.
        open_after: Failures in a row after which the circuit of a dataset opens; 0 never.
        probe_after_s: Seconds after which an open circuit lets one attempt through.
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
    """Whether a dataset may still be remedied automatically."""

    CLOSED = "closed"
    OPEN = "open"  # too many failures in a row: block, and do nothing else
    HALF_OPEN = "half-open"  # long enough ago: one attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationStep:
    """One thing to do about one check.

    Attributes:
        check: Id of the check.
        action: What to do.
        reason: Why this and not something else.
        rows: Failing rows it is about; None if it is about the dataset.
    """

    check: str
    action: Action
    reason: str
    rows: int | None = None

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"check": self.check, "action": str(self.action), "reason": self.reason, "rows": self.rows}


def default_action(check: Check) -> Action:
    """What is done about a failed check whose contract declares nothing.

    Minor failures warn. Duplicates are reduced to one row of each key. Failing rows that are known are quarantined,
    unless the check is critical; everything else blocks.
    """
    if check.severity is Severity.MINOR:
        return Action.WARN
    if check.rows is None or check.severity is Severity.CRITICAL:
        return Action.BLOCK
    return Action.DEDUPE if check.rows.keys else Action.QUARANTINE


def plan_steps(
    verification: Verification, policy: RemediationPolicy, circuit: CircuitState
) -> tuple[RemediationStep, ...]:
    """What to do about each failed check, mildest action first.

    A verification that is an ERROR gets a single BLOCK: nothing is known about the data, so nothing is changed.
    """
    if verification.verdict is Verdict.ERROR:
        return (RemediationStep(check="", action=Action.BLOCK, reason="the checker could not do its work"),)
    steps = [_step(check, verification.rows_tested) for check in verification.failed()]
    steps += [
        RemediationStep(check=c.id, action=Action.WARN, reason="warning threshold", rows=c.rows_failed)
        for c in verification.checks
        if c.outcome is Outcome.WARNED
    ]
    if circuit is CircuitState.OPEN:
        steps = [
            RemediationStep(
                check=s.check, action=Action.BLOCK, reason=f"the circuit is open (else {s.action})", rows=s.rows
            )
            if s.action not in (Action.OBSERVE, Action.WARN)
            else s
            for s in steps
        ]
    order = list(Action)
    return tuple(sorted(_within_budget(steps, verification, policy), key=lambda s: order.index(s.action)))


def _step(check: Check, rows_tested: int | None) -> RemediationStep:
    wanted, reason = check.action, "declared by the contract"
    if wanted is None:
        wanted, reason = default_action(check), f"default for a {check.severity} {check.kind} check"
    obstacle = _obstacle(check, wanted, rows_tested)
    if obstacle:
        wanted, reason = Action.BLOCK, f"{obstacle} (else {wanted})"
    return RemediationStep(check=check.id, action=wanted, reason=reason, rows=check.rows_failed)


def _obstacle(check: Check, action: Action, rows_tested: int | None) -> str:
    """Why an action cannot be taken for a check; "" if it can."""
    if action in REPAIRS | SPLITS and check.rows is None:
        return "the failing rows are not known"
    if action in REPAIRS and (check.column is None or (check.rows and check.rows.keys)):
        return "only values of one column can be repaired"
    if action is Action.DEDUPE and not (check.rows and check.rows.keys):
        return "not a duplicate check"
    own = check.parameters.get("budget_percent")
    if action in SPLITS and own is not None and _percent(check.rows_failed, rows_tested) > float(own):
        return f"{check.rows_failed} rows exceed the check's budget of {own} %"
    return ""


def _within_budget(
    steps: list[RemediationStep], verification: Verification, policy: RemediationPolicy
) -> Iterable[RemediationStep]:
    """Replace all splits by BLOCK if even the largest of them exceeds the budget: the union is checked when applied."""
    largest = max((step.rows or 0 for step in steps if step.action in SPLITS), default=0)
    percent = _percent(largest, verification.rows_tested)
    for step in steps:
        if step.action in SPLITS and percent > policy.budget_percent:
            reason = (
                f"{percent:.3g} % of the rows exceed the budget of {policy.budget_percent:g} % (else {step.action})"
            )
            yield RemediationStep(check=step.check, action=Action.BLOCK, reason=reason, rows=step.rows)
        else:
            yield step


def _percent(part: int | None, whole: int | None) -> float:
    return 100.0 * (part or 0) / whole if whole else (100.0 if part else 0.0)


def circuit_of(
    records: Iterable[Mapping[str, Any]], policy: RemediationPolicy, now_s: float
) -> tuple[CircuitState, int]:
    """State of a dataset's circuit and its failures in a row, from its past results, oldest first.

    Args:
        records: Results with `run_id`, `at_s` and `good`: whether the data could be used in the end, None if the
            checker could not say, which changes nothing. Several results of one run count once, by the last. What was
            blocked because the circuit was open (`circuit`) was no attempt: it does not put off the next one.
        policy: When to open and when to probe.
        now_s: The present.
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
class Edit:
    """A change of rows or values that follows from a step.

    Attributes:
        check: The failed check.
        action: One of `REPAIRS` or `SPLITS`.
    """

    check: Check
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """What a set of edits did, or would do in a dry run.

    Attributes:
        quarantined: Rows moved to quarantine.
        repaired: Rows in which a value was changed; the rows as they were are kept in quarantine as well.
        by_check: Rows by check id.
        place: Where the quarantine is, for people.
        data: The frame without the bad rows, if the dataset was a frame; None otherwise.
    """

    quarantined: int = 0
    repaired: int = 0
    by_check: Mapping[str, int] = field(default_factory=dict)
    place: str = ""
    data: Any = field(default=None, repr=False, compare=False)


def edits_of(verification: Verification, steps: Iterable[RemediationStep]) -> tuple[Edit, ...]:
    """The changes of rows and values among the steps; repairs first, so that a repaired row is not moved away."""
    by_id = {check.id: check for check in verification.checks}
    wanted = [s for s in steps if s.action in REPAIRS | SPLITS]
    wanted.sort(key=lambda step: (step.action in SPLITS, step.action is Action.DEDUPE))
    return tuple(Edit(check=by_id[step.check], action=step.action) for step in wanted)

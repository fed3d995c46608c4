"""Alert rules: from findings (health, causes, a snapshot) to alerts, and how duplicates are removed.

Each rule has a runbook page that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from prefect_intelligent.analytics.failure_signatures import FailureCause
from prefect_intelligent.analytics.health import Health, HealthStatus
from prefect_intelligent.analytics.root_cause import group_by_root
from prefect_intelligent.blocking.chain import BlockerFinding
from prefect_intelligent.blocking.reasons import Reason
from prefect_intelligent.domain import RunPhase, Snapshot
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.steering.other_writer import SetBack

AlertSeverity = Literal["page", "ticket"]

RUNBOOKS: Final[Mapping[str, str]] = {
    "budget-burn": "docs/how-to/runbooks/budget-burn.md",
    "keeps-failing": "docs/how-to/runbooks/keeps-failing.md",
    "new-cause": "docs/how-to/runbooks/new-cause.md",
    "hung-run": "docs/how-to/runbooks/hung-run.md",
    "deadline-at-risk": "docs/how-to/runbooks/deadline-at-risk.md",
    "queue-starving": "docs/how-to/runbooks/queue-starving.md",
    "controller-silent": "docs/how-to/runbooks/controller-silent.md",
    "cannot-start": "docs/how-to/runbooks/cannot-start.md",
    "slots-held-by-parents": "docs/how-to/runbooks/slots-held-by-parents.md",
    "slots-leaked": "docs/how-to/runbooks/slots-leaked.md",
    "another-writer": "docs/how-to/runbooks/another-writer.md",
}
"""Rule to its runbook page."""

_SEVERITY: Final[Mapping[str, AlertSeverity]] = {
    "keeps-failing": "page",
    "new-cause": "ticket",
    "hung-run": "page",
    "deadline-at-risk": "ticket",
    "queue-starving": "ticket",
    "controller-silent": "page",
    "cannot-start": "ticket",
    "slots-held-by-parents": "page",
    "slots-leaked": "ticket",
    "another-writer": "ticket",
}
_RULE_OF: Final[Mapping[Reason, str]] = {
    Reason.PARENTS: "slots-held-by-parents",
    Reason.LEAKED_SLOTS: "slots-leaked",
}
_OF_DEPLOYMENTS: Final = ("keeps-failing", "budget-burn")
KEEPS_FAILING: Final = 3
NEW_CAUSE_S: Final = 86400.0
NEW_CAUSE_RUNS: Final = 3
STARVING_S: Final = 3600.0
CANNOT_START_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person has to look at.

    Attributes:
        key: "rule:subject"; alerts with the same key are the same alert.
        rule: A key of `RUNBOOKS`.
        subject: Deployment, queue, run or cause.
        severity: "page" needs a person now, "ticket" can wait.
        summary: One sentence.
        since_s: Since when, Unix seconds.
        folded: Deployments that this alert covers too, e.g. those downstream.
    """

    key: str
    rule: str
    subject: str
    severity: AlertSeverity
    summary: str
    since_s: float
    folded: tuple[str, ...] = ()

    @property
    def runbook(self) -> str:
        """The page that says what to do."""
        return RUNBOOKS[self.rule]


def _alert(rule: str, subject: str, summary: str, since_s: float, severity: AlertSeverity | None = None) -> Alert:
    return Alert(
        key=f"{rule}:{subject}",
        rule=rule,
        subject=subject,
        severity=severity or _SEVERITY[rule],
        summary=summary,
        since_s=since_s,
    )


def from_health(found: Iterable[Health], now_s: float) -> list[Alert]:
    """Alerts about error budgets that are spent too fast and deployments that keep failing."""
    alerts = []
    for health in found:
        if health.status is HealthStatus.UNKNOWN:  # too few runs to wake somebody for
            continue
        for gate in health.gates:
            words = gate.split()
            if gate.endswith("runs failed") and int(words[2]) >= KEEPS_FAILING:
                alerts.append(_alert("keeps-failing", health.name, f"{health.name}: {gate}", now_s))
        budget = health.budget
        if budget is not None and budget.action in ("page", "ticket"):
            severity: AlertSeverity = "page" if budget.action == "page" else "ticket"
            fastest = max(budget.burn.values())
            left = f"{budget.left:.0%} is left" if budget.left >= 0 else f"it is overspent by {-budget.left:.0%}"
            text = f"{health.name}: the error budget burns {fastest:.0f} times too fast, {left}"
            alerts.append(_alert("budget-burn", health.name, text, now_s, severity))
    return alerts


def from_causes(causes: Iterable[FailureCause], now_s: float) -> list[Alert]:
    """Alerts about causes of failure that appeared within a day."""
    alerts = []
    for cause in causes:
        if cause.first_s > now_s - NEW_CAUSE_S and cause.failures >= NEW_CAUSE_RUNS:
            origin = f", came with version {cause.introduced_by}" if cause.introduced_by else ""
            origin = f", only on host {cause.host}" if cause.host else origin
            text = f"{cause.failures} runs failed by a new cause{origin}: {cause.signature}"
            alerts.append(replace(_alert("new-cause", cause.signature, text, cause.first_s), folded=cause.deployments))
    return alerts


def from_snapshot(
    snapshot: Snapshot, longest_s: Mapping[str, float], at_risk: Sequence[Mapping[str, object]]
) -> list[Alert]:
    """Alerts about hung runs, deadlines that will probably be missed, and starving queues.

    Args:
        snapshot: The pool as it is now.
        longest_s: Deployment to the duration that only one run in a thousand exceeds, seconds.
        at_risk: Rows with `deployment`, `queue`, `chance`, `usd_per_hour`, as from `pool_overview.at_risk_rows`.
    """
    alerts: list[Alert] = []
    for run in snapshot.runs(RunPhase.RUNNING, RunPhase.PENDING):
        longest = longest_s.get(run.deployment)
        if run.started_s is None or longest is None:
            continue
        held = snapshot.at_s - run.started_s
        if held > longest:
            usual = f"999 of 1000 end within {describe_span(longest)}"
            text = f"a run of {run.deployment} has held a slot for {describe_span(held)}; {usual}"
            alerts.append(_alert("hung-run", run.id, text, run.started_s + longest))
    risky: dict[str, list[Mapping[str, object]]] = {}
    for row in at_risk:
        if float(str(row["chance"])) >= 0.8 and float(str(row["usd_per_hour"])) > 0:
            risky.setdefault(str(row["queue"]), []).append(row)
    for queue, rows in sorted(risky.items()):
        text = f"{len(rows)} run{'s' * (len(rows) > 1)} in queue {queue} will probably miss the deadline"
        names = tuple(dict.fromkeys(str(row["deployment"]) for row in rows))
        alerts.append(replace(_alert("deadline-at-risk", queue, text, snapshot.at_s), folded=names[:20]))
    for state in snapshot.queues:
        if state.setting.paused or not state.waiting or state.active:
            continue
        oldest = snapshot.at_s - min(run.scheduled_s for run in state.waiting)
        if oldest > STARVING_S:
            count = len(state.waiting)
            text = f"queue {state.name}: {count} runs wait and none runs, the oldest for {describe_span(oldest)}"
            alerts.append(_alert("queue-starving", state.name, text, snapshot.at_s - oldest))
    return alerts


def from_blockers(found: Iterable[BlockerFinding], now_s: float) -> list[Alert]:
    """Alerts about faults that keep due runs from starting, in the sentences of `why`, with the one thing to do.

    What a person has chosen (a pause, a limit, a hold) is no alert, nor is what has kept a run for less than a minute.

    Args:
        found: As from `blocking.chain.findings`.
        now_s: The present, Unix seconds.
    """
    alerts = []
    for finding in found:
        blocker = finding.blocker
        if blocker.kind != "fault" or (finding.runs and now_s - finding.since_s < CANNOT_START_S):
            continue
        rule = _RULE_OF.get(blocker.reason, "cannot-start")
        subject = blocker.subject if rule in _RULE_OF.values() else f"{blocker.reason.name.lower()} {blocker.subject}"
        runs = f"{finding.runs} runs wait: " if finding.runs > 1 else ""
        severity: AlertSeverity | None = "page" if blocker.reason is Reason.NO_WORKER else None
        text = f"{runs}{blocker.what}; to do: {blocker.advice}"
        alerts.append(_alert(rule, subject, text, finding.since_s, severity))
    return alerts


def another_writer(pool: str, found: Sequence[SetBack]) -> list[Alert]:
    """One alert if another program sets values of the pool back again and again; its rhythm tells it from a person."""
    if not found:
        return []
    more = f"; so are {len(found) - 1} more values" if len(found) > 1 else ""
    text = f"pool {pool}: {found[0].sentence}{more}: a program does that, not a person"
    return [_alert("another-writer", pool, text, min(one.at_s[0] for one in found))]


def silent_controller(pool: str, last_s: float | None, interval_s: float, now_s: float) -> list[Alert]:
    """An alert if the controller has made no decision for five intervals; none if it never has made one."""
    if last_s is None or now_s - last_s <= 5.0 * interval_s:
        return []
    text = f"pool {pool}: no decision for {describe_span(now_s - last_s)}"
    return [_alert("controller-silent", pool, text, last_s + interval_s)]


def deduplicate(alerts: Iterable[Alert], upstream: Mapping[str, Sequence[str]]) -> tuple[Alert, ...]:
    """One alert per key, with alerts about the same deployments merged; pages first, then the oldest.

    A budget-burn alert is merged into the keeps-failing alert of its deployment, alerts of deployments into that of
    the failing deployment furthest upstream, and a new-cause alert into the alert that covers all its deployments.

    Args:
        alerts: As from the rules.
        upstream: Deployment to the deployments whose outputs it reads.
    """
    by_key: dict[str, Alert] = {}
    for alert in alerts:
        old = by_key.get(alert.key)
        by_key[alert.key] = alert if old is None else replace(old, since_s=min(old.since_s, alert.since_s))
    merged: set[str] = set()
    for alert in [alert for alert in by_key.values() if alert.rule == "budget-burn"]:
        if (failing := by_key.get(f"keeps-failing:{alert.subject}")) is not None:
            by_key[failing.key] = _with_summary(failing, alert.summary.removeprefix(f"{alert.subject}: "))
            merged.add(alert.key)
    own_alert = {
        alert.subject: key for key, alert in by_key.items() if alert.rule in _OF_DEPLOYMENTS and key not in merged
    }
    covering_alert = dict(own_alert)
    for root, downstream in group_by_root(sorted(own_alert), upstream).items():
        for name in downstream:
            merged.add(own_alert[name])
            covering_alert[name] = own_alert[root]
        if downstream:
            alert = by_key[own_alert[root]]
            by_key[alert.key] = replace(alert, folded=tuple(sorted({*alert.folded, *downstream})))
    for alert in [alert for alert in by_key.values() if alert.rule == "new-cause"]:
        covering = {covering_alert.get(name) for name in alert.folded}
        if len(covering) == 1 and (key := covering.pop()) is not None:
            by_key[key] = _with_summary(by_key[key], alert.summary)
            merged.add(alert.key)
    kept = [alert for key, alert in by_key.items() if key not in merged]
    return tuple(sorted(kept, key=lambda alert: (alert.severity != "page", alert.since_s, alert.key)))


def _with_summary(alert: Alert, more: str) -> Alert:
    return replace(alert, summary=f"{alert.summary}; {more}")

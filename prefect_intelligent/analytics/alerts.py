"""What a person should know now: alerts with a key of their own, folded by cause and by upstream.

Rules look at findings, not at raw data; each names the runbook page that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from prefect_intelligent.analytics.failure_signatures import Cause
from prefect_intelligent.analytics.health import Health
from prefect_intelligent.analytics.root_cause import fold_names
from prefect_intelligent.domain import RunPhase, Snapshot

Severity = Literal["page", "ticket"]

RUNBOOKS: Final[Mapping[str, str]] = {
    "budget-burn": "docs/how-to/runbooks/budget-burn.md",
    "keeps-failing": "docs/how-to/runbooks/keeps-failing.md",
    "new-cause": "docs/how-to/runbooks/new-cause.md",
    "hung-run": "docs/how-to/runbooks/hung-run.md",
    "deadline-at-risk": "docs/how-to/runbooks/deadline-at-risk.md",
    "queue-starving": "docs/how-to/runbooks/queue-starving.md",
    "controller-silent": "docs/how-to/runbooks/controller-silent.md",
}
"""Rule to its runbook page."""

_SEVERITY: Final[Mapping[str, Severity]] = {
    "keeps-failing": "page",
    "new-cause": "ticket",
    "hung-run": "page",
    "deadline-at-risk": "ticket",
    "queue-starving": "ticket",
    "controller-silent": "page",
}
_FOLDING: Final = ("keeps-failing", "budget-burn")
KEEPS_FAILING: Final = 3
NEW_CAUSE_S: Final = 86400.0
NEW_CAUSE_RUNS: Final = 3
STARVING_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that needs a person.

    Attributes:
        key: The same for the same thing, "rule:subject".
        rule: A key of `RUNBOOKS`.
        subject: Deployment, queue, run or cause.
        severity: "page" now, "ticket" when there is time.
        summary: One sentence.
        since_s: Since when, Unix seconds.
        folded: Subjects that suffer the same by this one (downstream deployments, further runs).
    """

    key: str
    rule: str
    subject: str
    severity: Severity
    summary: str
    since_s: float
    folded: tuple[str, ...] = ()

    @property
    def runbook(self) -> str:
        """The page that says what to do."""
        return RUNBOOKS[self.rule]


def _alert(rule: str, subject: str, summary: str, since_s: float, severity: Severity | None = None) -> Alert:
    return Alert(
        key=f"{rule}:{subject}",
        rule=rule,
        subject=subject,
        severity=severity or _SEVERITY[rule],
        summary=summary,
        since_s=since_s,
    )


def from_health(found: Iterable[Health], now_s: float) -> list[Alert]:
    """Budgets that burn and deployments that keep failing."""
    alerts = []
    for health in found:
        for gate in health.gates:
            words = gate.split()
            if gate.endswith("runs failed") and int(words[2]) >= KEEPS_FAILING:
                alerts.append(_alert("keeps-failing", health.name, f"{health.name}: {gate}", now_s))
        budget = health.budget
        if budget is not None and budget.action in ("page", "ticket"):
            severity: Severity = "page" if budget.action == "page" else "ticket"
            fastest = max(budget.burn.values())
            left = f"{budget.left:.0%} is left" if budget.left >= 0 else f"it is overspent by {-budget.left:.0%}"
            text = f"{health.name}: the error budget burns {fastest:.0f} times too fast, {left}"
            alerts.append(_alert("budget-burn", health.name, text, now_s, severity))
    return alerts


def from_causes(causes: Iterable[Cause], now_s: float) -> list[Alert]:
    """Causes of failure that were not there yesterday."""
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
    """Runs that hang, deadlines that will be missed, queues that starve.

    Args:
        snapshot: The pool as it is.
        longest_s: Deployment to what only one run in a thousand exceeds, seconds.
        at_risk: Rows with `deployment`, `queue`, `chance`, `usd_per_hour`, as from `pool_overview.at_risk_rows`.
    """
    alerts: list[Alert] = []
    for run in snapshot.runs(RunPhase.RUNNING, RunPhase.PENDING):
        longest = longest_s.get(run.deployment)
        if run.started_s is None or longest is None:
            continue
        held = snapshot.at_s - run.started_s
        if held > longest:
            usual = f"999 of 1000 end within {longest / 60:.0f}"
            text = f"a run of {run.deployment} has held a slot for {held / 60:.0f} min; {usual}"
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
            text = f"queue {state.name}: {count} runs wait and none runs, the oldest for {oldest / 3600:.1f} h"
            alerts.append(_alert("queue-starving", state.name, text, snapshot.at_s - oldest))
    return alerts


def silent_controller(pool: str, last_s: float | None, interval_s: float, now_s: float) -> list[Alert]:
    """The controller has not decided for five intervals; nothing if it never has."""
    if last_s is None or now_s - last_s <= 5.0 * interval_s:
        return []
    text = f"pool {pool}: no decision for {(now_s - last_s) / 60:.0f} min"
    return [_alert("controller-silent", pool, text, last_s + interval_s)]


def deduplicate(alerts: Iterable[Alert], upstream: Mapping[str, Sequence[str]]) -> tuple[Alert, ...]:
    """One alert per thing: per key, per deployment, per cause, and downstream folded into what it waits for.

    A budget that burns because its deployment keeps failing, and a new cause that only hits deployments that have an
    alert already, are said in that alert.

    Args:
        alerts: As found.
        upstream: Deployment to the deployments it reads from.
    """
    by_key: dict[str, Alert] = {}
    for alert in alerts:
        old = by_key.get(alert.key)
        by_key[alert.key] = alert if old is None else replace(old, since_s=min(old.since_s, alert.since_s))
    gone: set[str] = set()
    for alert in [alert for alert in by_key.values() if alert.rule == "budget-burn"]:
        if (failing := by_key.get(f"keeps-failing:{alert.subject}")) is not None:
            by_key[failing.key] = _joined(failing, alert.summary.removeprefix(f"{alert.subject}: "))
            gone.add(alert.key)
    hurt = {alert.subject: key for key, alert in by_key.items() if alert.rule in _FOLDING and key not in gone}
    holder = dict(hurt)
    for root, downstream in fold_names(sorted(hurt), upstream).items():
        for name in downstream:
            gone.add(hurt[name])
            holder[name] = hurt[root]
        if downstream:
            head = by_key[hurt[root]]
            by_key[head.key] = replace(head, folded=tuple(sorted({*head.folded, *downstream})))
    for alert in [alert for alert in by_key.values() if alert.rule == "new-cause"]:
        heads = {holder.get(name) for name in alert.folded}
        if len(heads) == 1 and (key := heads.pop()) is not None:
            by_key[key] = _joined(by_key[key], alert.summary)
            gone.add(alert.key)
    kept = [alert for key, alert in by_key.items() if key not in gone]
    return tuple(sorted(kept, key=lambda alert: (alert.severity != "page", alert.since_s, alert.key)))


def _joined(alert: Alert, more: str) -> Alert:
    return replace(alert, summary=f"{alert.summary}; {more}")

"""The alerts of a pool: from its runs over some days, its present state and its last decision.

The command `alerts` and the dashboard both use `find_in_runs` and `find_alerts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pandas as pd

from prefect_intelligent.analytics.alerts import (
    Alert,
    another_writer,
    deduplicate,
    from_blockers,
    from_causes,
    from_health,
    from_snapshot,
    silent_controller,
)
from prefect_intelligent.analytics.error_budget import DEFAULT_TARGET
from prefect_intelligent.analytics.failure_signatures import FailureCause, group_causes
from prefect_intelligent.analytics.health import Health
from prefect_intelligent.analytics.pool_overview import at_risk_rows, expected_ends, quality_shares
from prefect_intelligent.analytics.report import all_health
from prefect_intelligent.analytics.root_cause import Upstream
from prefect_intelligent.blocking.chain import BlockerFinding
from prefect_intelligent.domain import Prices, Snapshot
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.forecasting.duration_baseline import learn_durations
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision
from prefect_intelligent.steering.other_writer import SetBack, find_set_backs

SPAN_S: Final = 7 * 86400.0
"""How far back runs are analysed."""
REFRESH_S: Final = 60.0
"""How long findings in runs are used before the runs are analysed again."""
_DURATION_RUNS: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings:
    """What the runs of a span show.

    Attributes:
        deployments, queues, pools: Health of each, worst first.
        causes: Causes of failure, most failures first.
        longest_s: Deployment to the duration that only one run in a thousand exceeds, seconds.
    """

    deployments: Sequence[Health] = ()
    queues: Sequence[Health] = ()
    pools: Sequence[Health] = ()
    causes: Sequence[FailureCause] = ()
    longest_s: Mapping[str, float] = field(default_factory=dict)


def find_in_runs(
    runs: pd.DataFrame,
    now_s: float,
    *,
    quality: Mapping[str, tuple[float, int]],
    prices: Prices,
    budgets: Mapping[str, float],
    awaited: Collection[str] | None = None,
) -> RunFindings:
    """Health, causes of failure and longest durations.

    Args:
        runs: Runs of the pool, ordered by submission, as from the history.
        now_s: The present, Unix seconds.
        quality: Deployment to the severity-weighted share of passed checks and their number, as from `quality_shares`.
        prices: Prices of capacity.
        budgets: Deployment to its budget, US dollars a day.
        awaited: Deployments that have a schedule or declare what they write; None if that is not known.
    """
    if runs.empty:
        return RunFindings()
    health = all_health(
        runs, now_s, target=DEFAULT_TARGET, quality=quality, prices=prices, budgets=budgets, awaited=awaited
    )
    durations = learn_durations(runs.iloc[-_DURATION_RUNS:])
    names = [str(name) for name in runs["deployment"].unique()]
    return RunFindings(
        deployments=health["deployments"],
        queues=health["queues"],
        pools=health["pools"],
        causes=group_causes(runs),
        longest_s={name: value for name in names if (value := durations.longest_usual_s(name)) is not None},
    )


def find_alerts(
    findings: RunFindings,
    *,
    pool: str,
    now_s: float,
    last_decision_s: float | None,
    interval_s: float,
    upstream: Upstream,
    snapshot: Snapshot | None = None,
    at_risk: Sequence[Mapping[str, object]] = (),
    blocked: Sequence[BlockerFinding] = (),
    set_back: Sequence[SetBack] = (),
) -> tuple[Alert, ...]:
    """All alerts of a pool that hold now, without duplicates.

    Args:
        findings: As from `find_in_runs`.
        pool: Name of the work pool.
        now_s: The present, Unix seconds.
        last_decision_s: Instant of the controller's last decision; None if it has made none.
        interval_s: Longest time between two decisions, seconds.
        upstream: Deployment to the deployments whose outputs it reads.
        snapshot: The pool as it is now; None leaves out the alerts about live runs.
        at_risk: Runs of the snapshot that may be late, as from `at_risk_rows`.
        blocked: What keeps due runs from starting, as from `blocking.chain.findings`.
        set_back: What another program sets back again and again, as from `find_set_backs`.
    """
    alerts = [] if snapshot is None else from_snapshot(snapshot, findings.longest_s, at_risk)
    alerts += from_blockers(blocked, now_s) + another_writer(pool, set_back)
    alerts += silent_controller(pool, last_decision_s, interval_s, now_s)
    alerts += from_health(findings.deployments, now_s) + from_causes(findings.causes, now_s)
    return deduplicate(alerts, upstream)


def read_graph(graph: Callable[[], Graph] | None) -> Graph | None:
    """The pipeline graph; None if there is none or it cannot be read."""
    try:
        return None if graph is None else graph()
    except PrefectIntelligentError:
        return None


def upstream_of(graph: Graph) -> dict[str, list[str]]:
    """Deployment to the deployments whose outputs it reads."""
    return {name: graph.upstream(name) for name in graph.deployments}


class AlertFinder:
    """Callable: the alerts of a pool that hold now.

    Args:
        observe: Gives the pool as it is.
        read_runs: Gives the runs of the pool since an instant.
        history: Decisions and quality results.
        pool: Name of the work pool.
        prices: Prices of capacity.
        interval_s: Longest time between two decisions of the controller, seconds.
        graph: Gives the pipeline graph.
        budgets: Deployment to its budget, US dollars a day.
        awaited: Gives the deployments that have a schedule or declare what they write; None if that is not known.
        blocked: Gives what keeps due runs from starting.
        span_s: How far back runs are analysed, seconds.
        refresh_s: How long findings in runs are used, seconds.
        now: Gives the present, Unix seconds.
    """

    def __init__(
        self,
        *,
        observe: Callable[[], Snapshot],
        read_runs: Callable[[float], pd.DataFrame],
        history: HistoryStore,
        pool: str,
        prices: Prices,
        interval_s: float = 20.0,
        graph: Callable[[], Graph] | None = None,
        budgets: Mapping[str, float] | None = None,
        awaited: Callable[[], Collection[str] | None] = lambda: None,
        blocked: Callable[[], Sequence[BlockerFinding]] = tuple,
        span_s: float = SPAN_S,
        refresh_s: float = REFRESH_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._observe, self._read_runs, self._history, self._graph = observe, read_runs, history, graph
        self._pool, self._prices, self._interval_s, self._budgets = pool, prices, interval_s, budgets or {}
        self._span_s, self._refresh_s, self._now, self._awaited = span_s, refresh_s, now, awaited
        self._blocked = blocked
        self._findings, self._upstream = RunFindings(), dict[str, list[str]]()
        self._found_at = -float("inf")  # monotonic

    def __call__(self) -> tuple[Alert, ...]:
        """The alerts, pages first, then the oldest.

        Raises:
            OrchestratorError: Prefect does not answer.
            StoreError: The history cannot be read.
        """
        now_s = self._now()
        snapshot = self._observe()
        if time.monotonic() - self._found_at >= self._refresh_s:
            self._refresh(now_s)
        last = read_latest(self._history, DECISION, self._pool, read_decision)
        return find_alerts(
            self._findings,
            pool=self._pool,
            now_s=now_s,
            last_decision_s=None if last is None else last["at_s"],
            interval_s=self._interval_s,
            upstream=self._upstream,
            snapshot=snapshot,
            at_risk=at_risk_rows(snapshot, expected_ends(snapshot)),
            blocked=self._blocked(),
            set_back=find_set_backs(self._history, self._pool, now_s),
        )

    def _refresh(self, now_s: float) -> None:
        graph = read_graph(self._graph)
        if graph is not None:
            self._upstream = upstream_of(graph)
        self._findings = find_in_runs(
            self._read_runs(now_s - self._span_s),
            now_s,
            quality={} if graph is None else quality_shares(past_results(self._history), graph.writers),
            prices=self._prices,
            budgets=self._budgets,
            awaited=self._awaited(),
        )
        self._found_at = time.monotonic()

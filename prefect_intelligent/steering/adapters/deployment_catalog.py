"""A pool's deployments: names, terms, and how long their runs take. Read about once a minute and cached."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prefect_intelligent.blocking.startable import read_limit, slots_of
from prefect_intelligent.domain import Deployment, Estimate, Terms
from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi
from prefect_intelligent.prefect_client.terms import PublishedTerms, read_terms

_LOG = logging.getLogger(__name__)

UNKNOWN_ESTIMATE: Final = Estimate(p50_s=60.0, p90_s=300.0)
"""For a deployment without ended runs and without `expected`."""

_ENDED: Final = ("COMPLETED", "FAILED", "CRASHED")
_KEPT_RUNS: Final = 50
_LEAST_RUNS: Final = 5
_RARE_PER_REFRESH: Final = 8
_ASK_AGAIN_S: Final = 120.0
_PESSIMISM: Final = 2.0  # p90 over p50 of an author's estimate


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """A deployment with what its runs inherit.

    Attributes:
        deployment: Name, queue and terms.
        estimate: How long a run takes.
        failure_probability: Share of runs that fail.
        follows: Whether its runs come behind others: it has no active schedule, and is not paused.
    """

    deployment: Deployment
    estimate: Estimate
    failure_probability: float
    follows: bool = False


class RecentRuns:
    """The recent ended runs of one deployment."""

    def __init__(self) -> None:
        self.ids: deque[str] = deque(maxlen=4 * _KEPT_RUNS)
        self._ended: deque[tuple[float, bool]] = deque(maxlen=_KEPT_RUNS)

    def add(self, run: Mapping[str, Any]) -> None:
        """Add an ended run, oldest first; a run that is in already is ignored."""
        if run["id"] in self.ids or not run["start_time"] or not run["end_time"]:
            return
        self.ids.append(run["id"])
        seconds = unix_s(run["end_time"]) - unix_s(run["start_time"])
        self._ended.append((max(seconds, 0.1), run["state_type"] != "COMPLETED"))

    def estimate(self, start_up_s: float) -> Estimate | None:
        """From the completed runs, plus the start-up, which holds the slot too; None below five completed runs."""
        seconds = [s for s, failed in self._ended if not failed]
        if len(seconds) < _LEAST_RUNS:
            return None
        p50_s, p90_s = np.quantile(seconds, (0.5, 0.9)) + start_up_s
        return Estimate(p50_s=float(p50_s), p90_s=float(p90_s))

    @property
    def failure_probability(self) -> float:
        """Share of failures, with a prior of one in twenty that weighs as much as ten runs."""
        failures = sum(failed for _, failed in self._ended)
        return (failures + 0.5) / (len(self._ended) + 10)


class DeploymentCatalog:
    """The deployments of one pool.

    Args:
        api: Where they are read.
        pool: Name of the work pool.
        ttl_s: How long it is cached, seconds.
        start_up_s: Seconds between taking a slot and starting to work, added to measured durations.
    """

    def __init__(self, api: PrefectApi, pool: str, *, ttl_s: float = 60.0, start_up_s: float = 3.0) -> None:
        self._api, self._pool = api, pool
        self._ttl_s, self._start_up_s = ttl_s, start_up_s
        self._infos: dict[str, DeploymentInfo] = {}
        self._recent: dict[str, RecentRuns] = {}
        self._ask_at: dict[str, float] = {}  # deployment id to the monotonic instant before which it is not asked for
        self._read_at = -float("inf")  # monotonic
        self._counted = False  # whether the slots were read then
        self._ended_s: float | None = None
        self.generation = 0
        """Grows with every change of what is returned here, so that values derived from it can be cached."""
        self.problems: tuple[str, ...] = ()
        """Terms that could not be read."""
        self.slots: dict[str, int] = {}
        """Deployment id to how many of its runs may hold a slot at once; 0 is held, absent is no limit."""

    def of(self, deployment_id: str | None) -> DeploymentInfo:
        """The deployment; if it is not known, a stand-in that cannot be late."""
        found = self._infos.get(deployment_id or "")
        if found is not None:
            return found
        stand_in = Deployment(name=f"unknown/{deployment_id or 'deleted'}", queue="")
        return DeploymentInfo(stand_in, UNKNOWN_ESTIMATE, 0.0)

    def all(self) -> dict[str, Deployment]:
        """Deployment id to deployment, of those that send their runs to this pool."""
        return {key: info.deployment for key, info in self._infos.items() if info.deployment.queue}

    def infos(self) -> tuple[DeploymentInfo, ...]:
        """All that is known, also of deployments that have left the pool."""
        return tuple(self._infos.values())

    def refresh(
        self, needed: Collection[str] = (), *, busy: Mapping[str | None, int] | None = None, force: bool = False
    ) -> None:
        """Read the deployments again if the cache is too old, or if a needed deployment id is not known yet.

        A refresh takes four calls, and one more for each deployment (at most eight) whose runs are rare.

        Args:
            needed: Ids of deployments.
            busy: Deployment id to the runs that hold a slot now; the slots are not read without it.
            force: Whether to read in any case.
        """
        age_s = time.monotonic() - self._read_at
        missing = {key for key in needed if key not in self._infos}
        uncounted = busy is not None and not self._counted
        if not (force or uncounted or age_s > self._ttl_s or (missing and age_s > 2.0)):
            return
        published = read_terms(self._api)
        rows, flows = self._read_deployments(missing)
        self._read_recent_runs(rows)
        infos = {key: self._describe(row, flows.get(row["flow_id"], "?"), published) for key, row in rows.items()}
        if infos != self._infos:
            self.generation += 1
        self._infos, self.problems, self._read_at = infos, published.problems, time.monotonic()
        self._counted = busy is not None
        if busy is not None:
            found = {key: slots_of(read_limit(row), busy.get(key, 0)) for key, row in rows.items()}
            self.slots = {key: slots for key, slots in found.items() if slots is not None}

    def _read_deployments(self, missing: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Deployments by id and flow names by id, with those that have left the pool while runs of theirs are in it."""
        pools = {"work_pools": {"name": {"any_": [self._pool]}}}
        rows = {row["id"]: row for page in self._api.pages("/deployments/filter", pools) for row in page}
        elsewhere = [key for key in missing if key not in rows]
        if elsewhere:
            others = {"deployments": {"id": {"any_": elsewhere[:PAGE]}}}
            rows |= {row["id"]: row for page in self._api.pages("/deployments/filter", others) for row in page}
        wanted = sorted({row["flow_id"] for row in rows.values()})
        flows: dict[str, str] = {}
        for start in range(0, len(wanted), PAGE):
            body = {"flows": {"id": {"any_": wanted[start : start + PAGE]}}}
            flows |= {flow["id"]: flow["name"] for page in self._api.pages("/flows/filter", body) for flow in page}
        return rows, flows

    def _read_recent_runs(self, deployment_ids: Collection[str]) -> None:
        """The pool's runs that ended since the last look, and once the last runs of each deployment not among them.

        A call that fails changes nothing and is made again later: a pass without a measured duration is better than
        none.
        """
        runs: dict[str, Any] = {"state": {"type": {"any_": list(_ENDED)}}}
        if self._ended_s is not None:
            runs["end_time"] = {"after_": iso(self._ended_s - 60.0)}
        body = {"work_pools": {"name": {"any_": [self._pool]}}, "flow_runs": runs}
        try:
            self._take(self._api.page("/flow_runs/filter", {**body, "sort": "END_TIME_DESC"})[0])
        except (OrchestratorUnavailableError, ConflictError) as error:
            _LOG.warning("the ended runs of work pool %s could not be read: %s", self._pool, error)
            return
        now = time.monotonic()
        rare = [key for key in deployment_ids if key not in self._recent and self._ask_at.get(key, now) <= now]
        rare.sort(key=lambda key: self._ask_at.get(key, -math.inf))  # those that failed before come last
        for key in rare[:_RARE_PER_REFRESH]:
            runs = {"state": {"type": {"any_": list(_ENDED)}}, "deployment_id": {"any_": [key]}}
            last = {"flow_runs": runs, "sort": "END_TIME_DESC"}
            try:
                self._take(self._api.page("/flow_runs/filter", last, most=20)[0])
            except (OrchestratorUnavailableError, ConflictError) as error:
                self._ask_at[key] = now + jittered(_ASK_AGAIN_S)
                _LOG.warning("the last runs of deployment %s could not be read: %s", key, error)
                if isinstance(error, OrchestratorUnavailableError):
                    return  # each further call might take as long as this one did
            else:
                self._ask_at[key] = math.inf

    def _take(self, newest_first: list[dict[str, Any]]) -> None:
        for run in reversed(newest_first):
            if run["deployment_id"] and run["end_time"]:
                self._recent.setdefault(run["deployment_id"], RecentRuns()).add(run)
                self._ended_s = max(self._ended_s or 0.0, min(unix_s(run["end_time"]), self._api.now_s()))

    def _describe(self, row: Mapping[str, Any], flow: str, published: PublishedTerms) -> DeploymentInfo:
        terms = published.of(flow, row["name"])
        deployment = Deployment(
            name=f"{flow}/{row['name']}",
            queue=row["work_queue_name"] if row["work_pool_name"] == self._pool else "",
            terms=terms or Terms(),
            declared=terms is not None,
        )
        recent = self._recent.get(row["id"])
        measured = recent.estimate(self._start_up_s) if recent else None
        expected_s = deployment.terms.expected_s
        if measured is None and expected_s is not None:
            measured = Estimate(p50_s=expected_s, p90_s=_PESSIMISM * expected_s)
        return DeploymentInfo(
            deployment,
            measured or UNKNOWN_ESTIMATE,
            recent.failure_probability if recent else 0.0,
            follows=not row.get("paused") and not any(one.get("active") for one in row.get("schedules") or ()),
        )

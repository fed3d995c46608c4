"""What is known of a pool's deployments: names, terms, and how long their runs take. Read rarely, kept in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prefect_intelligent.domain import Deployment, Estimate, Terms
from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi
from prefect_intelligent.prefect_client.terms import PublishedTerms, read_terms

UNKNOWN_ESTIMATE: Final = Estimate(p50_s=60.0, p90_s=300.0)
"""For a deployment that has never run and says nothing."""

_ENDED: Final = ("COMPLETED", "FAILED", "CRASHED")
_KEPT: Final = 50
_ENOUGH: Final = 5
_RARE_PER_REFRESH: Final = 8
_PESSIMISM: Final = 2.0  # p90 over p50 of an author's estimate


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """A deployment with everything that its runs inherit.

    Attributes:
        deployment: Name, queue and terms.
        estimate: How long a run takes.
        failure_probability: Share of runs that fail.
    """

    deployment: Deployment
    estimate: Estimate
    failure_probability: float


class RecentRuns:
    """The recent ended runs of one deployment."""

    def __init__(self) -> None:
        self.ids: deque[str] = deque(maxlen=4 * _KEPT)
        self._ended: deque[tuple[float, bool]] = deque(maxlen=_KEPT)

    def add(self, run: Mapping[str, Any]) -> None:
        """Take note of an ended run, oldest first, each once."""
        if run["id"] in self.ids or not run["start_time"] or not run["end_time"]:
            return
        self.ids.append(run["id"])
        seconds = unix_s(run["end_time"]) - unix_s(run["start_time"])
        self._ended.append((max(seconds, 0.1), run["state_type"] != "COMPLETED"))

    def estimate(self, start_up_s: float) -> Estimate | None:
        """From the completed runs, with the start-up that holds the slot too; None below five of them."""
        seconds = [s for s, failed in self._ended if not failed]
        if len(seconds) < _ENOUGH:
            return None
        p50_s, p90_s = np.quantile(seconds, (0.5, 0.9)) + start_up_s
        return Estimate(p50_s=float(p50_s), p90_s=float(p90_s))

    @property
    def failure_probability(self) -> float:
        """Share of failures with a prior of one in twenty, worth ten runs."""
        failures = sum(failed for _, failed in self._ended)
        return (failures + 0.5) / (len(self._ended) + 10)


class DeploymentCatalog:
    """The deployments of one pool.

    Args:
        api: Where they are read.
        pool: Name of the work pool.
        ttl_s: How long what was read is good for.
        start_up_s: Seconds between taking a slot and starting to work, added to measured durations.
    """

    def __init__(self, api: PrefectApi, pool: str, *, ttl_s: float = 60.0, start_up_s: float = 3.0) -> None:
        self._api, self._pool = api, pool
        self._ttl_s, self._start_up_s = ttl_s, start_up_s
        self._worth: dict[str, DeploymentInfo] = {}
        self._past: dict[str, RecentRuns] = {}
        self._asked: set[str] = set()
        self._read_at = -float("inf")  # monotonic
        self._ended_s: float | None = None
        self.generation = 0
        """Grows with every change of anything said here, so that what was derived from it can be kept."""
        self.problems: tuple[str, ...] = ()
        """Terms that could not be read."""

    def of(self, deployment_id: str | None) -> DeploymentInfo:
        """What is known of the deployment; if nothing, a stand-in that cannot be late."""
        found = self._worth.get(deployment_id or "")
        if found is not None:
            return found
        stand_in = Deployment(name=f"unknown/{deployment_id or 'deleted'}", queue="")
        return DeploymentInfo(stand_in, UNKNOWN_ESTIMATE, 0.0)

    def all(self) -> dict[str, Deployment]:
        """Deployment id to deployment, of those that send their runs to this pool."""
        return {key: worth.deployment for key, worth in self._worth.items() if worth.deployment.queue}

    def refresh(self, needed: Collection[str] = (), *, force: bool = False) -> None:
        """Read what has grown old, or everything if a needed deployment id is not known yet.

        A refresh takes four calls, and one more for each deployment (at most eight) whose runs are rare.
        """
        age_s = time.monotonic() - self._read_at
        missing = {key for key in needed if key not in self._worth}
        if not (force or age_s > self._ttl_s or (missing and age_s > 2.0)):
            return
        agreed = read_terms(self._api)
        rows, flows = self._read_deployments(missing)
        self._read_past(rows)
        worth = {key: self._describe(row, flows.get(row["flow_id"], "?"), agreed) for key, row in rows.items()}
        if worth != self._worth:
            self.generation += 1
        self._worth, self.problems, self._read_at = worth, agreed.problems, time.monotonic()

    def _read_deployments(self, missing: Collection[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Deployments by id and flow names by id; those that have left the pool but not all their runs included."""
        pools = {"work_pools": {"name": {"any_": [self._pool]}}}
        rows = {row["id"]: row for page in self._api.pages("/deployments/filter", pools) for row in page}
        strangers = [key for key in missing if key not in rows]
        if strangers:
            body = {"deployments": {"id": {"any_": strangers[:PAGE]}}, "limit": PAGE}
            rows |= {row["id"]: row for row in self._api.call("POST", "/deployments/filter", body)}
        wanted = sorted({row["flow_id"] for row in rows.values()})
        flows: dict[str, str] = {}
        for start in range(0, len(wanted), PAGE):
            body = {"flows": {"id": {"any_": wanted[start : start + PAGE]}}, "limit": PAGE}
            flows |= {flow["id"]: flow["name"] for flow in self._api.call("POST", "/flows/filter", body)}
        return rows, flows

    def _read_past(self, deployment_ids: Collection[str]) -> None:
        """The pool's runs that ended since the last look, and once the last runs of each deployment not among them."""
        runs: dict[str, Any] = {"state": {"type": {"any_": list(_ENDED)}}}
        if self._ended_s is not None:
            runs["end_time"] = {"after_": iso(self._ended_s - 60.0)}
        body = {"work_pools": {"name": {"any_": [self._pool]}}, "flow_runs": runs}
        ended = self._api.call("POST", "/flow_runs/filter", {**body, "sort": "END_TIME_DESC", "limit": PAGE})
        self._take(ended)
        rare = [key for key in deployment_ids if key not in self._past and key not in self._asked]
        for key in rare[:_RARE_PER_REFRESH]:
            self._asked.add(key)
            runs = {"state": {"type": {"any_": list(_ENDED)}}, "deployment_id": {"any_": [key]}}
            last = {"flow_runs": runs, "sort": "END_TIME_DESC", "limit": 20}
            self._take(self._api.call("POST", "/flow_runs/filter", last))

    def _take(self, newest_first: list[dict[str, Any]]) -> None:
        for run in reversed(newest_first):
            if run["deployment_id"] and run["end_time"]:
                self._past.setdefault(run["deployment_id"], RecentRuns()).add(run)
                self._ended_s = max(self._ended_s or 0.0, unix_s(run["end_time"]))

    def _describe(self, row: Mapping[str, Any], flow: str, agreed: PublishedTerms) -> DeploymentInfo:
        terms = agreed.of(flow, row["name"])
        deployment = Deployment(
            name=f"{flow}/{row['name']}",
            queue=row["work_queue_name"] if row["work_pool_name"] == self._pool else "",
            terms=terms or Terms(),
            declared=terms is not None,
        )
        past = self._past.get(row["id"])
        measured = past.estimate(self._start_up_s) if past else None
        expected_s = deployment.terms.expected_s
        if measured is None and expected_s is not None:
            measured = Estimate(p50_s=expected_s, p90_s=_PESSIMISM * expected_s)
        return DeploymentInfo(deployment, measured or UNKNOWN_ESTIMATE, past.failure_probability if past else 0.0)

"""Prometheus metrics of the controller, for Grafana and alert rules, with labels of low cardinality.

Labels are the work pool, the queue (queues beyond the fiftieth share the label "other") and fixed words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_intelligent.errors import InvalidInputError, MissingExtraError
from prefect_intelligent.local.record_versions import left_out

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
except ImportError as exc:
    raise MissingExtraError("Prometheus metrics", "tracking") from exc

_PREFIX = "prefect_intelligent"
_MOST_QUEUES = 50
_OTHER = "other"


class ControllerMetrics:
    """The metrics of one controller process.

    Args:
        registry: Where they are registered; a new registry if None.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        pool, queue = ["pool"], ["pool", "queue"]

        def gauge(name: str, text: str, labels: list[str]) -> Gauge:
            return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

        self._decisions = counter("decisions", "Passes of the control loop by outcome.", ["pool", "outcome"])
        self._failures = counter("failed_passes", "Passes that could not be made.", pool)
        self._unreadable = gauge("unreadable_records", "Stored records that this process has passed over.", ["kind"])
        self._changes = counter("changes", "Settings written to Prefect.", pool)
        self._guard = counter("guard_interventions", "Queues whose proposed settings the guard changed.", pool)
        self._last = gauge("last_decision_timestamp_seconds", "When the last decision was made.", pool)
        self._leads = gauge("leads", "1 while this process leads the pool.", pool)
        self._limit = gauge("pool_limit", "Limit of the pool; absent if unlimited.", pool)
        self._stakes = {
            "cost_usd_per_hour": gauge(
                "cost_usd_per_hour", "Slots and the lateness of unfinished runs, by hour.", pool
            ),
            "longest_wait_s": gauge("longest_wait_seconds", "How long the oldest due run has waited.", pool),
        }
        self._waiting = gauge("queue_waiting_runs", "Runs that are due and unclaimed.", queue)
        self._active = gauge("queue_active_runs", "Runs that hold a slot.", queue)
        self._late = gauge("queue_late_runs", "Waiting runs that cannot finish in time any more.", queue)
        self._place = gauge("queue_place", "Place in the serving order, 1 is first.", queue)
        self._seconds = Histogram(
            f"{_PREFIX}_pass_seconds",
            "Length of a pass by part.",
            ["pool", "part"],
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=self.registry,
        )
        self._queues: dict[str, set[str]] = {}

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Count a decision, as `Decision.to_dict` gives it."""
        pool = str(decision["pool"])
        self._leads.labels(pool).set(1)
        self._decisions.labels(pool, decision["outcome"]).inc()
        self._changes.labels(pool).inc(len(decision["applied"]))
        self._last.labels(pool).set(float(decision["at_s"]))
        for kind, count in left_out().items():
            self._unreadable.labels(kind).set(count)
        for part in ("own", "wall"):
            self._seconds.labels(pool, part).observe(float(decision[f"{part}_ms"]) / 1000)
        limit = (decision["pool_limit"] or {}).get("applied")
        if limit is None:
            self._limit.remove_by_labels({"pool": pool})
        else:
            self._limit.labels(pool).set(limit)
        for name, value in (decision.get("stakes") or {}).items():
            if name in self._stakes:
                self._stakes[name].labels(pool).set(value)
        self._queue_numbers(pool, decision["queues"])

    def failed(self, pool: str) -> None:
        """Count a pass that failed."""
        self._failures.labels(pool).inc()

    def stands_by(self, pool: str) -> None:
        """Note that another process leads: this one's figures of the queues are out of date and removed."""
        self._leads.labels(pool).set(0)
        for known in self._stakes.values():
            known.remove_by_labels({"pool": pool})
        self._queue_numbers(pool, ())

    def leaves(self, pool: str) -> None:
        """Note that the pool is not steered by this process any more: its gauges are removed, its counters stay."""
        self.stands_by(pool)
        for gauge in (self._leads, self._last, self._limit):
            gauge.remove_by_labels({"pool": pool})

    def _queue_numbers(self, pool: str, queues: Any) -> None:
        gauges = (self._waiting, self._active, self._late, self._place)
        now: dict[str, list[int]] = {}
        for queue in queues:
            name = queue["name"] if len(now) < _MOST_QUEUES else _OTHER
            numbers = [queue["waiting"], queue["active"], queue["late"], queue["applied"]["place"]]
            now[name] = [a + b for a, b in zip(now.get(name, [0, 0, 0, 0]), numbers, strict=True)]
            wanted, permitted = queue["wanted"], queue["permitted"]
            self._guard.labels(pool).inc(wanted is not None and wanted != permitted)
        for name in self._queues.get(pool, set()) - now.keys():
            for gauge in gauges:
                gauge.remove(pool, name)
        for name, values in now.items():
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(pool, name).set(value)
        self._queues[pool] = set(now)

    def serve(self, port: int) -> None:
        """Answer `GET /metrics` on the port, from a thread.

        Raises:
            InvalidInputError: The port cannot be used.
        """
        try:
            start_http_server(port, registry=self.registry)
        except (OSError, OverflowError) as exc:
            raise InvalidInputError("--metrics-port", port, f"cannot be used: {exc}") from exc

"""Prometheus metrics of the controller, for Grafana and alert rules, with labels of low cardinality.

Labels are the work pool, the queue (queues beyond the fiftieth share the label "other") and fixed words.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prefect_intelligent.errors import InvalidInputError, MissingExtraError
from prefect_intelligent.local.record_versions import left_out

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
except ImportError as exc:
    raise MissingExtraError("Prometheus metrics", "tracking") from exc

_PREFIX = "prefect_intelligent"
_HEALTH: Final = "/healthz"
_DESIRED: Final = "/desired-slots"
_MOST_QUEUES = 50
_OTHER = "other"


class ControllerMetrics:
    """The metrics of one controller process.

    Args:
        registry: Where they are registered; a new registry if None.
        stale_s: Seconds without a turn of any pool after which the process does not count as alive.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, stale_s: float = 120.0) -> None:
        self._stale_s = stale_s
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
        self._desired = gauge("desired_slots", "Slots that the pool can use: what an autoscaler should follow.", pool)
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
        self._wanted: dict[str, Mapping[str, Any]] = {}
        self._turned = time.monotonic()

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Count a decision, as `Decision.to_dict` gives it."""
        pool = str(decision["pool"])
        self._turned = time.monotonic()
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
        self._wanted[pool] = {
            "pool": pool,
            "desired_slots": decision.get("desired_slots"),
            "active": sum(queue["active"] for queue in decision["queues"]),
            "waiting": sum(queue["waiting"] for queue in decision["queues"]),
            "pool_limit": limit,
            "at_s": float(decision["at_s"]),
        }
        if decision.get("desired_slots") is not None:
            self._desired.labels(pool).set(decision["desired_slots"])
        for name, value in (decision.get("stakes") or {}).items():
            if name in self._stakes:
                self._stakes[name].labels(pool).set(value)
        self._queue_numbers(pool, decision["queues"])

    def failed(self, pool: str) -> None:
        """Count a pass that failed."""
        self._turned = time.monotonic()
        self._failures.labels(pool).inc()

    def stands_by(self, pool: str) -> None:
        """Note that another process leads: this one's figures of the queues are out of date and removed."""
        self._turned = time.monotonic()
        self._leads.labels(pool).set(0)
        self._wanted.pop(pool, None)
        self._desired.remove_by_labels({"pool": pool})
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

    def wanted(self) -> Mapping[str, Mapping[str, Any]]:
        """What each pool wants that this process leads: `desired_slots`, what it has, and when that was found."""
        return dict(self._wanted)

    def alive(self) -> bool:
        """Whether a pool has had a turn lately, whatever came of it, or the process is young."""
        return time.monotonic() - self._turned < self._stale_s

    def serve(self, port: int) -> None:
        """Answer on the port, from threads.

        `GET /metrics` is for Prometheus, `GET /healthz` for probes: 503 if no pool has had a turn for long.
        `GET /desired-slots` gives `{"pools": {POOL: {"desired_slots": ...}}}`, `GET /desired-slots/POOL` one of these,
        or 503 while this process does not lead the pool: whoever scales by it then keeps what is there.

        Raises:
            InvalidInputError: The port cannot be used.
        """
        try:
            server = make_server("", port, self._app(), _Server, _QuietHandler)
        except (OSError, OverflowError) as exc:
            raise InvalidInputError("--metrics-port", port, f"cannot be used: {exc}") from exc
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def _app(self) -> Callable[..., Iterable[bytes]]:
        metrics = make_wsgi_app(self.registry)

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            # WSGI gives the path decoded as Latin-1, whatever it was.
            path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
            if path == _HEALTH:
                alive = self.alive()
                start("200 OK" if alive else "503 Service Unavailable", [("Content-Type", "text/plain")])
                return [b"ok\n" if alive else b"no pool has had a turn for long\n"]
            if path.rstrip("/") != _DESIRED and not path.startswith(f"{_DESIRED}/"):
                found: Iterable[bytes] = metrics(environ, start)
                return found
            pools, status = self.wanted(), "200 OK"
            body: Mapping[str, Any] = {"pools": pools}
            if name := path.removeprefix(_DESIRED).strip("/"):
                body = pools.get(name) or {"pool": name, "problem": "this process does not lead the pool"}
                status = status if name in pools else "503 Service Unavailable"
            start(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
            return [json.dumps(body).encode()]

        return answer


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread: one that is slow to read keeps nobody waiting."""

    daemon_threads = True
    allow_reuse_address = False  # a port that somebody else has is an error


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return

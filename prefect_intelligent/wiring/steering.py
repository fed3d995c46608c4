"""Settings to the adapters and the decision loop that steer one pool."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import steering_key
from prefect_intelligent.model_registry.champion_policy import ChampionPolicy
from prefect_intelligent.model_registry.promotion import CHAMPION
from prefect_intelligent.policy import Policy, RulePolicy, parse_policy
from prefect_intelligent.policy.bundle import SHIPPED, read_bundle
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.lease import PrefectLease
from prefect_intelligent.settings import PoolSettings, Settings, load_settings
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig, LimitBounds
from prefect_intelligent.steering.decision_record import KIND, Decision
from prefect_intelligent.steering.kill_switch import read_switch
from prefect_intelligent.steering.lookahead import LookAhead
from prefect_intelligent.steering.plan_check import innermost_policy
from prefect_intelligent.steering.ports import WakeUps
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.wiring.capacity import boot_s
from prefect_intelligent.wiring.model_registry import open_policy_store
from prefect_intelligent.wiring.pool_records import pool_records
from prefect_intelligent.wiring.regime import PLANNER, bounds_of, guard_of

if TYPE_CHECKING:
    from prefect_intelligent.steering.adapters.prefect_events import PrefectEventStream
    from prefect_intelligent.steering.adapters.prometheus import ControllerMetrics
    from prefect_intelligent.wiring.pool_group import SharedParts

_LEASE_S = 30.0
_HOOK_LEASE_S = 10.0
_HOOK = "hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolController:
    """Everything that is needed to steer one pool.

    Attributes:
        api: The Prefect server.
        orchestrator: The pool on it.
        history: Where records are kept.
        lease: Leadership over the pool.
        clock: The time.
        config: What we are told to do.
        stream: Prefect's events, where the process steers more pools; it has one of its own if None.
    """

    api: PrefectApi
    orchestrator: PrefectOrchestrator
    history: HistoryStore
    lease: PrefectLease
    clock: Clock
    config: ControllerConfig
    stream: PrefectEventStream | None = None

    def reconcile(self, look_ahead_s: float = math.inf, *, while_leading: bool = False) -> Decision:
        """Make one pass.

        Args:
            look_ahead_s: So long the twin may compute at most.
            while_leading: Whether the lease is kept during the pass, and the pass ends when it lapses nevertheless,
                e.g. because the process has stood still.
        """
        config, ahead = self.config, self.config.look_ahead
        if ahead is not None and look_ahead_s < ahead.config.budget_s:
            less = replace(ahead, config=replace(ahead.config, budget_s=look_ahead_s))
            config = replace(config, look_ahead=less)
        if not while_leading:
            return reconcile(self.orchestrator, self.history, self.clock, config)
        with self.lease.kept():
            return reconcile(self.orchestrator, self.history, self.clock, config, leads=lambda: self.lease.held)

    def signals(self) -> WakeUps:
        """What brings a pass forward; close it at the end."""
        from prefect_intelligent.steering.adapters.prefect_events import PrefectWakeUps

        return PrefectWakeUps(self.api, self.orchestrator.pool, stream=self.stream)


def open_controller(
    settings: Settings,
    pool: str,
    *,
    by: str | None = None,
    timeout_s: float = 5.0,
    ttl_s: float | None = None,
    check_pool: bool = True,
    api: PrefectApi | None = None,
    clock: Clock | None = None,
    terms_ttl_s: float = 60.0,
    shared: SharedParts | None = None,
) -> PoolController:
    """Make the adapters for one pool.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        by: Who decides, for the record; a controller of this process if None.
        timeout_s: For one call to Prefect.
        ttl_s: Time to live of the leadership; `lease_s` if None.
        check_pool: Whether to ask Prefect for the pool before anything is written to disk. A server that does not
            answer is no error here: a controller may be started before it.
        api: The Prefect server; the one of the profile in force if None.
        clock: The time, in which the server's instants are read too; the system's if None.
        terms_ttl_s: How long deployments, their terms and durations are kept before they are read again.
        shared: What this process has for several pools; parts of its own if None.

    Raises:
        InvalidInputError: A setting cannot be used; `UnknownNameError` if the server has no such pool.
        StoreError: The history store cannot be opened.
    """
    outlooks = None
    if check_pool:  # a hook has no time for it
        from prefect_intelligent.wiring.outlooks import open_outlooks

        outlooks = open_outlooks(settings, pool)
    config = controller_config(settings, pool, by or f"controller {socket.gethostname()}:{os.getpid()}")
    api = api or PrefectApi(timeout_s=timeout_s)
    clock = clock or SystemClock()
    orchestrator = PrefectOrchestrator(
        api,
        pool,
        prices=settings.prices_of(pool),
        resources=settings.shared_resources,
        terms_ttl_s=terms_ttl_s,
        now=clock.now_s,
        outlooks=outlooks,
        recall=check_pool,
    )
    if check_pool:
        with suppress(OrchestratorUnavailableError):
            orchestrator.settings()
    history = pool_records(
        settings, api, pool, lambda: orchestrator.pool_id, history=None if shared is None else shared.history
    )
    if check_pool:
        config = replace(config, boot_s=boot_s(settings, pool, history))
    return PoolController(
        api=api,
        orchestrator=orchestrator,
        history=history,
        lease=PrefectLease(api, pool, ttl_s=ttl_s or lease_s(settings)),
        clock=clock,
        config=config,
        stream=None if shared is None else shared.stream,
    )


def lease_s(settings: Settings) -> float:
    """Time to live of a controller's leadership, seconds.

    One interval, this time and the quarter of an interval after which the others ask are what passes without a decision
    when a leader dies in the middle of one: with the default interval less than three of them.
    """
    return max(_LEASE_S, 1.5 * settings.interval_s)


def worker_is_online(controller: PoolController) -> bool:
    """Whether a worker of the pool sends heartbeats."""
    route = path("work_pools", controller.orchestrator.pool, "workers", "filter")
    found = controller.api.call("POST", route, {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": 1})
    return bool(found)


def check_pool(pool: str) -> None:
    """Refuse a pool that the server does not know; a server that does not answer at once is no error.

    Raises:
        UnknownNameError: There is no such pool.
    """
    with suppress(OrchestratorUnavailableError):
        PrefectOrchestrator(PrefectApi(timeout_s=2.0, attempts=1, patience=0), pool).settings()


def serve_metrics(port: int, interval_s: float) -> ControllerMetrics:
    """Metrics of a controller that decides at least every `interval_s`, served for Prometheus and probes on the port.

    Raises:
        InvalidInputError: The port cannot be used.
        MissingExtraError: prometheus-client is not installed.
    """
    from prefect_intelligent.steering.adapters.prometheus import ControllerMetrics

    metrics = ControllerMetrics(stale_s=max(120.0, 5 * interval_s))
    metrics.serve(port)
    return metrics


def controller_config(settings: Settings, pool: str, by: str) -> ControllerConfig:
    """What the settings tell a controller of the pool to do."""
    own = settings.pools.get(pool, PoolSettings())
    return ControllerConfig(
        policy=open_policy(settings, settings.policy),
        rule=choose_policy(settings.rule),
        mode=settings.mode,
        guard=guard_of(settings),
        pool_bounds=bounds_of(settings, pool),
        queue_bounds={name: LimitBounds(least=queue.least, most=queue.most) for name, queue in own.queues.items()},
        hold_s=settings.hold_s,
        by=by,
        look_ahead=None if by == _HOOK else open_look_ahead(settings),
        mend_claims=by != _HOOK,
    )


def open_policy(settings: Settings, text: str) -> Policy:
    """The policy that the setting of that text means: "champion", "planner:POLICY", or see `choose_policy`."""
    kind, colon, pupil = text.partition(":")
    if kind == PLANNER:
        behind = open_policy(settings, pupil if colon else settings.rule)
        decides = innermost_policy(behind)
        base = decides if isinstance(decides, RulePolicy) else getattr(decides, "base", parse_policy(settings.rule))
        return Planner(inner=behind, base=base)
    return follow_champion(settings) if text == CHAMPION else choose_policy(text)


def open_look_ahead(settings: Settings) -> LookAhead | None:
    """The look ahead that the settings allow; None where it is off or the twin is not installed."""
    if settings.look_ahead_ms == 0 or importlib.util.find_spec("numba") is None:
        return None
    from prefect_intelligent.wiring.replay import snapshot_model

    return LookAhead(
        model=lambda snapshot: snapshot_model(settings, snapshot),
        config=PlannerConfig(budget_s=settings.look_ahead_ms / 1e3),
        ready=_TWIN,
    )


class Readiness:
    """Whether the twin is compiled in this process; the first question has it compiled in the background."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._begun = threading.Lock()

    def __call__(self) -> bool:
        """True once the twin answers at once."""
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._warm, daemon=True).start()
        return self._done.is_set()

    def _warm(self) -> None:
        from prefect_intelligent.twin.warm import warm

        warm()
        self._done.set()


_TWIN = Readiness()


def choose_policy(text: str) -> Policy:
    """The rule of that name, the bundle in that folder, or "shipped", the bundle that comes with the package.

    Raises:
        InvalidInputError: It is none of them; for a bundle the message says what is wrong with it.
    """
    if text == "shipped":
        return read_bundle(SHIPPED).agent()
    if os.sep in text or Path(text).is_dir():
        return read_bundle(Path(text).expanduser()).agent()
    return parse_policy(text)


def follow_champion(settings: Settings) -> Policy:
    """The policy that follows the champion alias; the base rule while there is none."""
    return ChampionPolicy(
        open_policy_store(settings, follow=True),
        choose_policy(settings.rule),
        notice=logging.getLogger(__name__).warning,
    )


def steer_once(pool: str, timeout_s: float) -> Decision | None:
    """Make one pass on behalf of a flow's hook, if nobody else has made one lately.

    Args:
        pool: Name of the work pool.
        timeout_s: For all calls to Prefect together.

    Returns:
        The decision; None if a controller leads the pool, the last decision is younger than the interval, or the pool
        is not switched on.

    Raises:
        PrefectIntelligentError: It could not be made; the pool is as it was.
    """
    settings = load_settings().settings
    controller = open_controller(
        settings, pool, by=_HOOK, timeout_s=min(5.0, timeout_s), ttl_s=_HOOK_LEASE_S, check_pool=False
    )
    try:
        with controller.api.within(timeout_s):
            decision, quiet_s = _steer_if_due(controller, settings.interval_s)
        liveness.mark_alive(steering_key(controller.api.url, pool), quiet_s)
        return decision
    finally:
        controller.api.close()


def _steer_if_due(controller: PoolController, interval_s: float) -> tuple[Decision | None, float]:
    """The decision, if it was for us to make one, and for how many seconds nobody has to ask again."""
    pool = controller.orchestrator.pool
    last_s = read_latest(controller.history, KIND, pool, lambda record: float(record["at_s"]))
    age_s = math.inf if last_s is None else abs(controller.clock.now_s() - last_s)
    if age_s < interval_s:
        return None, interval_s - age_s
    if read_switch(controller.history, pool) != "on" or not controller.lease.acquire():
        return None, interval_s
    try:
        return controller.reconcile(while_leading=True), interval_s
    finally:
        controller.lease.release()

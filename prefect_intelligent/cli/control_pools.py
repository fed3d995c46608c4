"""What `control run` does with one pool, by itself or beside others, and what it tells about it."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prefect_intelligent.errors import OrchestratorError, PrefectIntelligentError, UnknownNameError
from prefect_intelligent.local import liveness
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.steering.controller import LoopEvent, run_loop
from prefect_intelligent.steering.leadership import Leadership

if TYPE_CHECKING:
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.steering.decision_record import Decision
    from prefect_intelligent.steering.kill_switch import Position
    from prefect_intelligent.steering.ports import WakeUps
    from prefect_intelligent.wiring.pool_group import SharedParts
    from prefect_intelligent.wiring.steering import PoolController

_TIDY_EVERY_S = 3600.0
_LOOK_AHEAD_SHARE = 0.25
"""Of the interval, for the twin, for all pools together: what one takes is not to keep the others from deciding."""
_LOG = logging.getLogger(__name__)


class PoolRunner:
    """Runs the loops of one process, which may be in several threads.

    Args:
        settings: All settings.
        shared: What the controllers of several pools share; None if there is one.
        opened: Controllers that are open already.
        metrics_port: Where metrics are served; None if nowhere.
        once: Whether a loop ends after one turn.
        restore_on_exit: Whether the settings are put back when a loop ends.
        as_json: Whether what happens is printed as JSON, a line each.

    Attributes:
        pools: How many are steered.
        meant: The pools that starting the process means; pools beside them are only watched. None means all.
        failed: Whether the last turn of any loop has failed.
    """

    def __init__(
        self,
        settings: Settings,
        shared: SharedParts | None,
        opened: Sequence[PoolController],
        metrics_port: int | None,
        *,
        once: bool,
        restore_on_exit: bool,
        as_json: bool,
    ) -> None:
        self.once, self.pools = once, max(1, len(opened))
        self.meant: frozenset[str] | None = None
        self._settings, self._shared = settings, shared
        self._opened = {controller.orchestrator.pool: controller for controller in opened}
        self._restore, self._as_json, self._several = restore_on_exit, as_json, shared is not None
        self._records, self._said = Spool(settings.spool_dir), threading.Lock()
        self._tidy = _Tidy(settings)
        self._failing: set[str | None] = set()
        self._unknown: str | None = None
        self._metrics = None
        if metrics_port is not None:
            from prefect_intelligent.wiring.steering import serve_metrics

            self._metrics = serve_metrics(metrics_port, settings.interval_s)

    @property
    def failed(self) -> bool:
        """Whether the last turn of any loop has failed."""
        return bool(self._failing)

    def run_named(self, pool: str, stopped: Callable[[], bool]) -> None:
        """Open the pool's controller, unless it is open, and run its loop.

        Raises:
            PrefectIntelligentError: It cannot be opened.
        """
        from prefect_intelligent.wiring.steering import open_controller

        controller = self._opened.pop(pool, None) or open_controller(self._settings, pool, shared=self._shared)
        try:
            self.run(controller, stopped)
        finally:
            controller.api.close()

    def run(self, controller: PoolController, stopped: Callable[[], bool]) -> None:
        """Run a loop until it is stopped, or for one turn."""
        from prefect_intelligent.wiring.capacity import open_notifiers

        settings, name = self._settings, controller.orchestrator.pool
        led = liveness.steering_key(controller.api.url, name)
        switch_on = _SwitchOn(controller, meant=self.meant is None or name in self.meant)
        switch_on.try_to()  # the server may be started after the controller
        if not self._as_json and not self.once:
            self._greet(controller)

        def steer() -> Decision:
            switch_on()
            look_ahead_s = _LOOK_AHEAD_SHARE * settings.interval_s / max(1, self.pools)
            return controller.reconcile(look_ahead_s, while_leading=True)

        def tell(moment: LoopEvent) -> None:
            self._note(name, failed=moment.what == "failed")
            if moment.what == "standing by":
                switch_on.try_to()
            if moment.what != "failed" and not self.once:  # one of us leads: hooks on this machine need not decide
                liveness.mark_alive(led, 3.0 * settings.interval_s, settings.folder)
            if moment.decision is not None:
                _record(self._records, moment.decision.to_dict())
                for notifier in notifiers:
                    notifier.want(name, moment.decision.desired_slots or 0)
            self._count(name, moment)
            if not moment.repeated:
                self._print(name, moment, leader=lambda: _leader(controller))
            if moment.what == "decided":
                self._tidy(controller)

        notifiers = open_notifiers(settings, name)
        signals: WakeUps = _Silence(controller) if self.once or not settings.react else controller.signals()
        with contextlib.closing(signals), contextlib.ExitStack() as stack:
            for notifier in notifiers:
                stack.callback(notifier.close)
            run_loop(
                steer,
                Leadership(controller.lease),
                signals,
                controller.clock,
                interval_s=settings.interval_s,
                stopped=stopped,
                tell=tell,
                once=self.once,
            )
        if not self.once:
            liveness.clear(led, settings.folder)
        if self._restore:
            from prefect_intelligent.steering.restore import restore

            with contextlib.suppress(*((UnknownNameError,) if self._several else ())):  # a pool that was deleted
                restore(controller.orchestrator, controller.history, controller.clock, by=controller.config.by)

    def tell_members(self, joined: Iterable[str], left: Iterable[str]) -> None:
        """Say which pools have joined and left."""
        self._unknown = None
        self._note(None, failed=False)
        for what, names in (("joined", joined), ("left", left)):
            for name in names:
                if what == "left":
                    self._note(name, failed=False)
                    if self._metrics is not None:
                        self._metrics.leaves(name)
                if not self.once:
                    self._say({"what": what, "pool": name}, f"work pool {name} has {what}", None)

    def tell_unknown(self, error: OrchestratorError) -> None:
        """Say once that the server does not say which pools there are."""
        self._note(None, failed=True)
        if str(error) != self._unknown:
            self._unknown = str(error)
            told = {"what": "failed", "pool": None, "problem": str(error), "decision": None}
            self._say(told, f"{error}{'' if self.once else '; trying again'}", "yellow")

    def tell_broken(self, pool: str, error: Exception) -> None:
        """Say that a loop has ended by an error; nobody has foreseen it unless it is one of ours."""
        if not isinstance(error, PrefectIntelligentError):
            _LOG.error("the loop of work pool %s has ended and is started again", pool, exc_info=error)
        problem = f"{type(error).__name__}: {error}"
        self._note(pool, failed=True)
        if self._metrics is not None:
            self._metrics.failed(pool)
        self._say(
            {"what": "failed", "pool": pool, "problem": problem, "decision": None}, f"{pool}: {problem}", "yellow"
        )

    def _note(self, pool: str | None, *, failed: bool) -> None:
        (self._failing.add if failed else self._failing.discard)(pool)

    def _count(self, pool: str, moment: LoopEvent) -> None:
        if self._metrics is None:
            return
        if moment.decision is not None:
            self._metrics.decided(moment.decision.to_dict())
        elif moment.what == "failed":
            self._metrics.failed(pool)
        else:
            self._metrics.stands_by(pool)

    def _greet(self, controller: PoolController) -> None:
        from prefect_intelligent.steering.kill_switch import read_switch

        name = controller.orchestrator.pool
        how = f"{controller.config.policy.name}, mode {controller.config.mode}"
        with self._said:
            print(f"Steering work pool {name} with {how}; Ctrl-C ends it.", flush=True)
            with contextlib.suppress(OrchestratorError):
                if read_switch(controller.history, name) == "off":
                    print("It is switched off: nothing is written until `control on`.", flush=True)

    def _print(self, pool: str, moment: LoopEvent, *, leader: Callable[[], str]) -> None:
        from prefect_intelligent.cli import formatting

        decision = None if moment.decision is None else moment.decision.to_dict()
        data = {"what": moment.what, "pool": pool, "problem": moment.problem, "decision": decision}
        text, style = "", None
        if not self._as_json:
            if decision is not None:
                text = formatting.headline(decision)
            elif moment.what == "failed":
                again = not self.once and not moment.permanent
                text, style = f"{moment.problem}{'; trying again' if again else ''}", "yellow"
            else:
                text = f"standing by: {leader()} leads"
        self._say(data, f"{pool}: {text}" if self._several else text, style)

    def _say(self, data: dict[str, Any], text: str, style: str | None) -> None:
        """Print the one or the other; loops in several threads do so one after another."""
        from prefect_intelligent.cli import formatting

        with self._said:
            if self._as_json:
                print(json.dumps(data), flush=True)
            else:
                formatting.console.print(text, soft_wrap=True, style=style)


def _record(records: Spool, decision: dict[str, Any]) -> None:
    """Leave a decision for the shipper; a full disk does not stop the controller."""
    with contextlib.suppress(PrefectIntelligentError):
        records.append("decision", decision, event_id=f"decision:{decision['pool']}:{decision['at_s']}")


def _leader(controller: PoolController) -> str:
    """Who made the last decision, as far as our history knows."""
    from prefect_intelligent.history.reading import read_latest
    from prefect_intelligent.steering.decision_record import KIND, read_decision

    last = read_latest(controller.history, KIND, controller.orchestrator.pool, read_decision)
    return "another controller" if last is None else str(last["by"])


class _SwitchOn:
    """Starting in mode auto turns the switch of a pool that is meant on, unless it is off, and of others off.

    It is done once, when the server answers.
    """

    def __init__(self, controller: PoolController, *, meant: bool) -> None:
        self._controller, self._meant, self._done = controller, meant, controller.config.mode != "auto"

    def __call__(self) -> None:
        """Do it, unless it is done.

        Raises:
            OrchestratorError: The server does not answer or does not allow it.
        """
        from prefect_intelligent.steering.kill_switch import set_if_unset

        if not self._done:
            controller = self._controller
            pool, now_s = controller.orchestrator.pool, controller.clock.now_s()
            position: Position = "on" if self._meant else "off"
            set_if_unset(controller.history, pool, position, now_s, controller.config.by)
            self._done = True

    def try_to(self) -> None:
        """Do it if the server answers."""
        with contextlib.suppress(OrchestratorError):
            self()


class _Silence:
    """Signals that never fire: only the interval counts."""

    def __init__(self, controller: PoolController) -> None:
        self._clock = controller.clock

    def wait(self, timeout_s: float) -> bool:
        self._clock.sleep(timeout_s)
        return False

    def close(self) -> None:
        return


class _Tidy:
    """Forgets old decisions, of all pools, now and then."""

    def __init__(self, settings: Settings) -> None:
        self._keep_s, self._next_s, self._lock = settings.keep_s, 0.0, threading.Lock()

    def __call__(self, controller: PoolController) -> None:
        from prefect_intelligent.steering.controller_state import INTENT
        from prefect_intelligent.steering.decision_record import KIND

        now_s = controller.clock.now_s()
        with self._lock:
            if now_s < self._next_s:
                return
            self._next_s = now_s + _TIDY_EVERY_S
        for kind in (KIND, INTENT):
            controller.history.forget(kind, now_s - self._keep_s)

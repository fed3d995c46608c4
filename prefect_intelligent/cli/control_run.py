"""`control run`: the controller as a process."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, settings_and_pool
from prefect_intelligent.errors import OrchestratorError, PrefectIntelligentError

if TYPE_CHECKING:
    from prefect_intelligent.local.spool import Spool
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.steering.controller import LoopEvent
    from prefect_intelligent.steering.decision_record import Decision
    from prefect_intelligent.steering.ports import WakeUps
    from prefect_intelligent.wiring.steering import PoolController

_TIDY_EVERY_S = 3600.0


def command(
    *,
    pool: Pool = None,
    config: Config = None,
    policy: Annotated[
        str | None,
        Parameter(metavar="NAME|BUNDLE", help="a rule such as atc+lookahead+share, or a bundle's folder"),
    ] = None,
    mode: Annotated[
        Literal["shadow", "advise", "auto"] | None, Parameter(help="record; also tell; or do (default: auto)")
    ] = None,
    interval_s: Annotated[
        float | None, Parameter(name="--interval", metavar="S", help="longest time between decisions")
    ] = None,
    ship: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=(0, 1), metavar="[URI]", help="also run `ship` beside, to MLflow at URI or its default"
        ),
    ] = None,
    metrics_port: Annotated[
        Int | None, Parameter(metavar="PORT", help="answer GET /metrics for Prometheus there")
    ] = None,
    once: Annotated[bool, Parameter(help="make one decision and end")] = False,
    restore_on_exit: Annotated[bool, Parameter(help="put the original settings back at the end")] = False,
    as_json: Json = False,
) -> int:
    """Steer until SIGTERM or SIGINT; the last good settings stay in force and the lease is given up."""
    from prefect_intelligent.local import liveness
    from prefect_intelligent.local.spool import Spool
    from prefect_intelligent.steering.controller import run_loop
    from prefect_intelligent.steering.kill_switch import read_switch
    from prefect_intelligent.steering.leadership import Leadership
    from prefect_intelligent.steering.restore import restore
    from prefect_intelligent.wiring.pipelines import open_event_relay
    from prefect_intelligent.wiring.steering import open_controller

    settings, name = settings_and_pool(config, pool, policy=policy, mode=mode, interval_s=interval_s)
    controller = open_controller(settings, name)
    switch_on = _SwitchOn(controller)
    switch_on.try_to()  # the server may be started after the controller
    tidy = _Tidy(controller, settings)
    failed = False
    records, led = Spool(settings.spool_dir), liveness.steering_key(controller.api.url, name)
    metrics = _metrics(metrics_port)

    def steer() -> Decision:
        switch_on()
        return controller.reconcile()

    def tell(moment: LoopEvent) -> None:
        nonlocal failed
        failed = moment.what == "failed"
        if moment.what == "standing by":
            switch_on.try_to()
        if not failed and not once:  # one of us leads: hooks on this machine need not decide
            liveness.mark_alive(led, 3.0 * settings.interval_s, settings.folder)
        if moment.decision is not None:
            _record(records, moment.decision.to_dict())
        if metrics is not None:
            metrics(name, moment)
        if not moment.repeated:
            _print(moment, as_json=as_json, again=not once and not moment.permanent, leader=lambda: _leader(controller))
        tidy(moment)

    signals: WakeUps = _Silence(controller) if once or not settings.react else controller.signals()
    if not as_json and not once:
        how = f"{controller.config.policy.name}, mode {controller.config.mode}"
        print(f"Steering work pool {name} with {how}; Ctrl-C ends it.", flush=True)
        with contextlib.suppress(OrchestratorError):
            if read_switch(controller.history, name) == "off":
                print("It is switched off: nothing is written until `control on`.", flush=True)
    relay = contextlib.nullcontext() if once else open_event_relay(settings, controller.api)
    with _shipper(ship, config), relay, _Stop() as stop, contextlib.closing(signals):
        run_loop(
            steer,
            Leadership(controller.lease),
            signals,
            controller.clock,
            interval_s=settings.interval_s,
            stopped=stop.asked,
            tell=tell,
            once=once,
        )
    if not once:
        liveness.clear(led, settings.folder)
    if restore_on_exit:
        restore(controller.orchestrator, controller.history, controller.clock, by=controller.config.by)
    return 1 if once and failed else 0


def _record(records: Spool, decision: dict[str, Any]) -> None:
    """Leave a decision for the shipper; a full disk does not stop the controller."""
    with contextlib.suppress(PrefectIntelligentError):
        records.append("decision", decision, event_id=f"decision:{decision['pool']}:{decision['at_s']}")


@contextlib.contextmanager
def _shipper(uri: list[str] | None, config: str | None) -> Iterator[None]:
    """A shipper as a process of its own, so that a slow MLflow never slows a decision; ended with the controller."""
    if uri is None:
        yield
        return
    options = [*(f"--tracking-uri={one}" for one in uri), *(["--config", config] if config else [])]
    # A session of its own: Ctrl-C is for the controller, which ends the shipper when it is done itself.
    process = subprocess.Popen([sys.executable, "-m", "prefect_intelligent", "ship", *options], start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _metrics(port: int | None) -> Callable[[str, LoopEvent], None] | None:
    """Serve metrics on the port; returns what has to be told each moment."""
    if port is None:
        return None
    from prefect_intelligent.wiring.steering import serve_metrics

    metrics = serve_metrics(port)

    def tell(pool: str, moment: LoopEvent) -> None:
        if moment.decision is not None:
            metrics.decided(moment.decision.to_dict())
        elif moment.what == "failed":
            metrics.failed(pool)
        else:
            metrics.stands_by(pool)

    return tell


class _SwitchOn:
    """Starting in mode auto turns the switch of the pool on, unless it is off; done once, when the server answers."""

    def __init__(self, controller: PoolController) -> None:
        self._controller, self._done = controller, controller.config.mode != "auto"

    def __call__(self) -> None:
        """Do it, unless it is done.

        Raises:
            OrchestratorError: The server does not answer or does not allow it.
        """
        from prefect_intelligent.steering.kill_switch import switch_on_unless_off

        if not self._done:
            controller = self._controller
            pool, now_s = controller.orchestrator.pool, controller.clock.now_s()
            switch_on_unless_off(controller.history, pool, now_s, controller.config.by)
            self._done = True

    def try_to(self) -> None:
        """Do it if the server answers."""
        with contextlib.suppress(OrchestratorError):
            self()


def _leader(controller: PoolController) -> str:
    """Who made the last decision, as far as our history knows."""
    from prefect_intelligent.history.reading import read_latest
    from prefect_intelligent.steering.decision_record import KIND, read_decision

    last = read_latest(controller.history, KIND, controller.orchestrator.pool, read_decision)
    return "another controller" if last is None else str(last["by"])


class _Stop:
    """Set by SIGTERM and SIGINT while entered; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Stop:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        return self._asked

    def _ask(self, number: int, _: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True


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
    """Forgets old decisions now and then."""

    def __init__(self, controller: PoolController, settings: Settings) -> None:
        self._controller, self._keep_s, self._next_s = controller, settings.keep_s, 0.0

    def __call__(self, moment: LoopEvent) -> None:
        from prefect_intelligent.steering.controller_state import INTENT
        from prefect_intelligent.steering.decision_record import KIND

        now_s = self._controller.clock.now_s()
        if moment.what == "decided" and now_s >= self._next_s:
            self._next_s = now_s + _TIDY_EVERY_S
            for kind in (KIND, INTENT):
                self._controller.history.forget(kind, now_s - self._keep_s)


def _print(moment: LoopEvent, *, as_json: bool, again: bool, leader: Callable[[], str]) -> None:
    decision = None if moment.decision is None else moment.decision.to_dict()
    if as_json:
        print(json.dumps({"what": moment.what, "problem": moment.problem, "decision": decision}), flush=True)
        return
    from prefect_intelligent.cli import formatting

    if decision is not None:
        formatting.console.print(formatting.headline(decision), soft_wrap=True)
    elif moment.what == "failed":
        formatting.console.print(f"{moment.problem}{'; trying again' if again else ''}", soft_wrap=True, style="yellow")
    else:
        formatting.console.print(f"standing by: {leader()} leads", soft_wrap=True)

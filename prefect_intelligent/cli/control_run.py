"""`control run`: the controller as a process."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from prefect_intelligent.cli.options import add_json, chosen_pool, read_settings
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import steering_key
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.pipelines.adapters.event_relay import EventRelay
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.controller import LoopEvent, run_loop
from prefect_intelligent.steering.controller_state import INTENT
from prefect_intelligent.steering.decision_record import KIND
from prefect_intelligent.steering.kill_switch import read_switch, set_switch
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.steering.ports import WakeUps
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.wiring.steering import PoolController, open_controller, serve_metrics

_TIDY_EVERY_S = 3600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--policy", metavar="NAME|BUNDLE", help="a rule such as atc+lookahead+share, or a bundle's folder"
    )
    parser.add_argument("--mode", choices=("shadow", "advise", "auto"), help="record; also tell; or do (default: auto)")
    parser.add_argument("--interval", dest="interval_s", type=float, metavar="S", help="longest time between decisions")
    parser.add_argument(
        "--ship", nargs="?", const="", metavar="URI", help="also run `ship` beside, to MLflow at URI or its default"
    )
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="answer GET /metrics for Prometheus there")
    parser.add_argument("--once", action="store_true", help="make one decision and end")
    parser.add_argument("--restore-on-exit", action="store_true", help="put the original settings back at the end")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Steer until SIGTERM or SIGINT; the last good settings stay in force and the lease is given up."""
    loaded = read_settings(args, ("pool", "policy", "mode", "interval_s"))
    controller = open_controller(loaded.settings, chosen_pool(loaded))
    pool = controller.orchestrator.pool
    if read_switch(controller.history, pool) == "restored":
        set_switch(controller.history, pool, "on", controller.clock.now_s(), controller.config.by)
    tidy = _Tidy(controller, loaded.settings)
    failed = False
    records, led = Spool(loaded.settings.spool_dir), steering_key(controller.api.url, pool)
    metrics = _metrics(args.metrics_port)

    def tell(moment: LoopEvent) -> None:
        nonlocal failed
        failed = moment.what == "failed"
        if not failed and not args.once:  # one of us leads: hooks on this machine need not decide
            liveness.mark_alive(led, 3.0 * loaded.settings.interval_s, loaded.settings.folder)
        if moment.decision is not None:
            _record(records, moment.decision.to_dict())
        if metrics is not None:
            metrics(pool, moment)
        if not moment.repeated:
            _print(moment, as_json=args.json, again=not args.once and not moment.permanent)
        tidy(moment)

    signals: WakeUps = _Silence(controller) if args.once or not loaded.settings.react else controller.signals()
    if not args.json and not args.once:
        config = controller.config
        print(f"Steering work pool {pool} with {config.policy.name}, mode {config.mode}; Ctrl-C ends it.", flush=True)
    announcer = contextlib.nullcontext() if args.once else EventRelay(controller.api.url, loaded.settings.folder)
    with _shipper(args.ship, args.config), announcer, _Stop() as stop, contextlib.closing(signals):
        run_loop(
            controller.reconcile,
            Leadership(controller.lease),
            signals,
            controller.clock,
            interval_s=loaded.settings.interval_s,
            stopped=stop.asked,
            tell=tell,
            once=args.once,
        )
    if not args.once:
        liveness.clear(led, loaded.settings.folder)
    if args.restore_on_exit:
        restore(controller.orchestrator, controller.history, controller.clock, by=controller.config.by)
    return 1 if args.once and failed else 0


def _record(records: Spool, decision: dict[str, Any]) -> None:
    """Leave a decision for the shipper; a full disk does not stop the controller."""
    with contextlib.suppress(PrefectIntelligentError):
        records.append("decision", decision, event_id=f"decision:{decision['pool']}:{decision['at_s']}")


@contextlib.contextmanager
def _shipper(uri: str | None, config: str | None) -> Iterator[None]:
    """A shipper as a process of its own, so that a slow MLflow never slows a decision; ended with the controller."""
    if uri is None:
        yield
        return
    options = [*(["--tracking-uri", uri] if uri else []), *(["--config", config] if config else [])]
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
    metrics = serve_metrics(port)

    def tell(pool: str, moment: LoopEvent) -> None:
        if moment.decision is not None:
            metrics.decided(moment.decision.to_dict())
        elif moment.what == "failed":
            metrics.failed(pool)
        else:
            metrics.stands_by(pool)

    return tell


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
        self._cockpit, self._keep_s, self._next_s = controller, settings.keep_s, 0.0

    def __call__(self, moment: LoopEvent) -> None:
        now_s = self._cockpit.clock.now_s()
        if moment.what == "decided" and now_s >= self._next_s:
            self._next_s = now_s + _TIDY_EVERY_S
            for kind in (KIND, INTENT):
                self._cockpit.history.forget(kind, now_s - self._keep_s)


def _print(moment: LoopEvent, *, as_json: bool, again: bool) -> None:
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
        formatting.console.print("standing by: another controller leads", soft_wrap=True)

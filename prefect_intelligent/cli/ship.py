"""`prefect-intelligent ship`: send what hooks, gates and the controller have recorded to MLflow."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from typing import Any, Final

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings
from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.tracking.shipper import Shipment, only_shipper, ship_forever
from prefect_intelligent.wiring.tracking import Shipper, open_shipper

_PAUSES_S: Final = (0.5, 1.5)  # of --once, before it tries again
_COUNTS: Final = ("collected", "sent", "refused", "archived", "checks")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: MLFLOW_TRACKING_URI)"
    )
    parser.add_argument("--once", action="store_true", help="one pass, then end; exit 1 if something is left")
    parser.add_argument("--status", action="store_true", help="what waits and what was lost; sends nothing")
    parser.add_argument("--interval", type=float, default=5.0, metavar="S", help="seconds between passes (default: 5)")
    parser.add_argument("--archive", action="store_true", help="with --once: write the archive files now")
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ship until SIGTERM or SIGINT."""
    shipper = open_shipper(read_settings(args).settings, uri=args.tracking_uri)
    if args.status:
        _print(shipper.status(), args.json)
        return 0
    with only_shipper(shipper.spool) as mine:
        if not mine:
            print("another process ships this spool", file=sys.stderr)
            return 0
        if args.once:
            done = _patiently(shipper, archive_all=args.archive)
            _print(done, args.json)
            return 1 if done.problem else 0
        stop: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: stop.append(n))

        denied = False

        def once() -> Shipment:
            nonlocal denied
            done = shipper.once()
            if done.sent or (done.problem and not (done.denied and denied)):
                _print(done, args.json)
            denied = done.denied
            return done

        ship_forever(once, shipper.clock, interval_s=args.interval, stopped=lambda: bool(stop))
    return 0


def _patiently(shipper: Shipper, *, archive_all: bool) -> Shipment:
    """One pass, which a server that is only slow for a moment does not end."""
    whole = shipper.once(archive_all=archive_all)
    for pause_s in _PAUSES_S:
        if not whole.problem or whole.denied:
            break
        shipper.clock.sleep(jittered(pause_s))
        more = shipper.once(archive_all=archive_all)
        done = {name: getattr(whole, name) + getattr(more, name) for name in _COUNTS}
        whole = replace(more, **done)
    return whole


def _print(done: Shipment, as_json: bool) -> None:
    record: dict[str, Any] = done.to_record()
    if as_json:
        print_json(record)
        return
    words = [f"{name} {value}" for name, value in record.items() if value and name != "problem"]
    print(", ".join(words) or "nothing to send", flush=True)
    if done.problem:
        print(f"{'kept' if done.denied else 'will try again'}: {done.problem}", file=sys.stderr, flush=True)

"""`prefect-intelligent ship`: send what hooks, gates and the controller have recorded to MLflow."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, print_json, read_settings
from prefect_intelligent.domain.backoff import jittered

if TYPE_CHECKING:
    from prefect_intelligent.tracking.shipper import Shipment
    from prefect_intelligent.wiring.tracking import Shipper

_PAUSES_S: Final = (0.5, 1.5)  # of --once, before it tries again
_COUNTS: Final = ("collected", "sent", "refused", "archived", "checks")


def command(
    *,
    tracking_uri: Annotated[
        str | None, Parameter(metavar="URI", help="MLflow server or database (default: MLFLOW_TRACKING_URI)")
    ] = None,
    once: Annotated[bool, Parameter(help="one pass, then end; exit 1 if something is left")] = False,
    status: Annotated[bool, Parameter(help="what waits and what was lost; sends nothing")] = False,
    interval: Annotated[float, Parameter(metavar="S", help="seconds between passes (default: 5)")] = 5.0,
    archive: Annotated[bool, Parameter(help="with --once: write the archive files now")] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Ship until SIGTERM or SIGINT."""
    from prefect_intelligent.tracking.shipper import only_shipper, ship_forever
    from prefect_intelligent.wiring.tracking import open_shipper

    shipper = open_shipper(read_settings(config).settings, uri=tracking_uri)
    if status:
        _print(shipper.status(), as_json, nothing="nothing waits")
        return 0
    with only_shipper(shipper.spool) as alone:
        if not alone:
            print("another process ships this spool", file=sys.stderr)
            return 0
        if once:
            done = _patiently(shipper, archive_all=archive)
            _print(done, as_json)
            return 1 if done.problem else 0
        stop: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: stop.append(n))

        denied = False

        def one_pass() -> Shipment:
            nonlocal denied
            done = shipper.once()
            if done.sent or (done.problem and not (done.denied and denied)):
                _print(done, as_json)
            denied = done.denied
            return done

        ship_forever(one_pass, shipper.clock, interval_s=interval, stopped=lambda: bool(stop))
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


def _print(done: Shipment, as_json: bool, *, nothing: str = "nothing to send") -> None:
    record: dict[str, Any] = done.to_record()
    if as_json:
        print_json(record)
        return
    words = [f"{name} {value}" for name, value in record.items() if value and name != "problem"]
    print(", ".join(words) or nothing, flush=True)
    if done.problem:
        print(f"{'kept' if done.denied else 'will try again'}: {done.problem}", file=sys.stderr, flush=True)

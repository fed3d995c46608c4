"""`prefect-intelligent what-if`: what a change of settings would do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, Seed, check_seed, print_json, settings_and_pool
from prefect_intelligent.errors import InvalidInputError


def command(
    *,
    wanted: Annotated[
        list[str],
        Parameter(
            name="--set",
            metavar="NAME=VALUE",
            help="pool.limit=N, QUEUE.limit=N or QUEUE.priority=N; 'none' is unlimited; may be repeated",
        ),
    ],
    hours: Annotated[float, Parameter(metavar="H", help="how long new runs come (default: 4)")] = 4.0,
    futures: Annotated[Int, Parameter(metavar="N", help="futures to sample (default: 64)")] = 64,
    seed: Annotated[Seed, Parameter(help="of the futures (default: 0)")] = 0,
    pool: Pool = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print the money and lateness of both sides. Nothing is written to Prefect."""
    from prefect_intelligent.replay.eta import what_if
    from prefect_intelligent.wiring.replay import observe_pool, worked_model

    changes = dict(_change(text) for text in wanted)
    check_seed(seed)
    if futures < 1:
        raise InvalidInputError("--futures", futures, "must be 1 or more")
    if not 0 <= hours <= 24 * 366:
        raise InvalidInputError("--hours", hours, "must be a number of hours, 0 to a year")
    settings, name = settings_and_pool(config, pool)
    snapshot = observe_pool(settings, name)
    model = worked_model(settings, snapshot)
    found = what_if(snapshot, model, changes, seed, futures=futures, horizon_s=hours * 3600.0)
    if as_json:
        print_json({"pool": name, "changes": changes, "futures": futures, "seed": seed, **asdict(found)})
        return 0
    said = ", ".join(f"{setting} = {'none' if value is None else value}" for setting, value in changes.items())
    print(f"{said} in {futures} futures of the next {hours:g} h:")
    print(f"  cost       {_cents(found.cost_usd):>10} -> {_cents(found.changed_usd)} USD")
    print(f"  late runs  {found.late_runs:10.1f} -> {found.changed_late_runs:.1f}")
    interval = f"{_cents(found.saving_low_usd)} to {_cents(found.saving_high_usd)} in nine of ten futures"
    print(f"  saves      {_cents(found.saving_usd):>10} USD ({interval})")
    return 0


def _cents(usd: float) -> str:
    """Money with two digits; less than half a cent is no loss."""
    return f"{round(usd, 2) + 0.0:.2f}"


def _change(text: str) -> tuple[str, int | None]:
    """One `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError("--set", text, "write NAME=VALUE, e.g. pool.limit=6")
    if value.strip().lower() == "none":
        return name.strip(), None
    try:
        number = int(value)
    except ValueError as error:
        raise InvalidInputError(name, value, "must be a whole number, or 'none' for unlimited") from error
    if number < 0:
        raise InvalidInputError(name, value, "must be 0 or more, or 'none' for unlimited")
    return name.strip(), number

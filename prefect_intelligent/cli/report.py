"""`prefect-intelligent report`: what happened in a span, as a table, JSON or a page of HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.errors import InvalidInputError

_ROWS = 20
Dimension = Literal["pool", "queue", "deployment", "version", "host", "hour"]


def command(
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    last: Annotated[str, Parameter(metavar="SPAN", help="how far back, e.g. 24h or 30d (default 7d)")] = "7d",
    by: Annotated[Dimension, Parameter(help="what the table shows")] = "deployment",
    money: Annotated[bool, Parameter(help="split the cost: useful, wasted, overhead, idle, late ...")] = False,
    rows: Annotated[Int | None, Parameter(metavar="N", help="rows of the table (default 20, or all hours)")] = None,
    html: Annotated[
        Path | None, Parameter(metavar="FILE", help="also write the dashboard's page with this data inside")
    ] = None,
) -> int:
    """Analyse and print."""
    import time

    from prefect_intelligent.analytics.report import make_report
    from prefect_intelligent.wiring.analytics import read_slots
    from prefect_intelligent.wiring.history import open_history, open_runs

    settings = read_settings(config, pool=pool).settings
    span_s = parse_span(last, what="--last")
    if rows is not None and rows < 1:
        raise InvalidInputError("--rows", rows, "must be 1 or more")
    until_s = time.time()
    store = open_runs(settings)
    frame = store.run_frame(since_s=until_s - span_s, pool=settings.pool, extra=False)
    prices = settings.prices_of(settings.pool or "")
    slots = read_slots(store, open_history(settings), settings.pool)
    report = make_report(frame, since_s=until_s - span_s, until_s=until_s, prices=prices, slots=slots)
    if html is not None:
        from prefect_intelligent.dashboard.export import write_page
        from prefect_intelligent.dashboard.state import StateBuilder
        from prefect_intelligent.wiring.pipeline_graph import awaited_deployments, history_graph

        builder = StateBuilder(
            observe=None,
            read_runs=lambda since_s: store.run_frame(since_s=since_s, pool=settings.pool),
            history=open_history(settings),
            pool=settings.pool or "",
            prices=prices,
            span_s=span_s,
            graph=lambda: history_graph(store),
            slots=lambda: slots,
            budgets=settings.budgets_usd_per_day,
            awaited=lambda: awaited_deployments(store),
        )
        builder()
        builder.wait()
        write_page(html, builder() | {"title": settings.pool or "all pools"})
    if as_json:
        print_json(report)
        return 0
    if report["total"]["runs"] == 0:
        print(f"not enough data: no run in the last {format_span(span_s)}; has `prefect-intelligent sync` been run?")
        return 1
    _print(report, by, rows, money=money)
    return 0


def seconds(value: float | None) -> str:
    """A span for people."""
    if value is None:
        return "-"
    return format_span(round(value, 1) if value < 60 else round(value))


def share(value: float | None) -> str:
    """A share for people."""
    return "-" if value is None else f"{value:.1%}"


def usd(value: float | None) -> str:
    """Money for people."""
    return "-" if value is None else f"${value:.2f}"


def _times(row: Mapping[str, Any]) -> dict[str, str]:
    """Heading to cell: how long things took."""
    return {
        "runs": str(row["runs"]),
        "failed": share(row["failure_share"]),
        "on time": share(row["on_time_share"]),
        "wait p50": seconds(row["wait_p50_s"]),
        "wait p90": seconds(row["wait_p90_s"]),
        "takes p50": seconds(row["service_p50_s"]),
        "takes p90": seconds(row["service_p90_s"]),
        "cost": usd(row["cost_usd"]),
    }


def _money(row: Mapping[str, Any]) -> dict[str, str]:
    """Heading to cell: what the cost is made of."""
    parts = ("useful", "wasted", "overhead", "idle", "lateness", "failure")
    cost = usd(row["cost_usd"] + (row["idle_usd"] or 0.0))
    return {"runs": str(row["runs"]), **{name: usd(row[f"{name}_usd"]) for name in parts}, "cost": cost}


def _print(report: Mapping[str, Any], by: str, rows: int | None, *, money: bool) -> None:
    from prefect_intelligent.cli.formatting import say
    from prefect_intelligent.cli.tables import print_table

    total = report["total"]
    say(
        f"{total['runs']} runs, {total['ended']} ended, {share(total['failure_share'])} failed, "
        f"{share(total['on_time_share'])} on time, {report['throughput_per_hour']:.1f}/h, "
        f"utilisation {share(report['utilisation'])}"
    )
    parts = [
        f"{name.removesuffix('_usd')} ${value:.2f}"
        for name, value in report["money"].items()
        if value is not None and name.endswith("_usd")
    ]
    say(f"money: {', '.join(parts)}; ${report['money']['usd_per_day']:.2f} a day over {report['days']:.1f} days")
    cells = _money if money else _times
    groups = list(report["by"].get(by, {}).items())
    most = len(groups) if rows is None and by == "hour" else rows or _ROWS
    title = f"By {by}, dearest first" if by != "hour" else "By hour (UTC)"
    print_table([{by: name, **cells(row)} for name, row in groups[:most]], title=title, drop=("overhead", "takes p50"))
    if len(groups) > most:
        say(f"{len(groups) - most} more; --rows {len(groups)} shows them.")
    for cause in report["causes"][:5]:
        came = f", came with version {cause['introduced_by']}" if cause["introduced_by"] else ""
        where = f", only on host {cause['host']}" if cause["host"] else ""
        say(f"{cause['failures']} failures: {cause['signature']} in {', '.join(cause['deployments'][:3])}{came}{where}")
    for change in report["changes"]:
        day = utc(change["at_s"])
        say(f"{change['series']} went from {change['before']:.4g} to {change['after']:.4g} on {day:%Y-%m-%d}")
    for trend in report["trends"]:
        way = "rises" if trend["per_day"] > 0 else "falls"
        part = f" ({abs(trend['relative_per_day']):.1%} of its level)" if trend["relative_per_day"] else ""
        say(f"{trend['series']} {way} by {abs(trend['per_day']):.3g} a day{part}, over {trend['days']} days")
    if report["mended"]:
        say(f"{report['mended']} runs ended before they started by their clocks; taken as instantaneous")

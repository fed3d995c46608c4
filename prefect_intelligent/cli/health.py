"""`prefect-intelligent health`: status, score and error budget, worst first."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError

_MOST_ROWS = 50


def command(
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    last: Annotated[str, Parameter(metavar="SPAN", help="how far back (default 30d)")] = "30d",
    of: Annotated[
        Literal["deployments", "queues", "pools"], Parameter(help="whose health (default deployments)")
    ] = "deployments",
    target: Annotated[float, Parameter(metavar="TARGET", help="share of time that must be good (default 0.99)")] = 0.99,
    name: Annotated[str | None, Parameter(metavar="NAME", help="only this one, with every term")] = None,
) -> int:
    """Print; the exit code is 1 if something is degraded."""
    import time

    from prefect_intelligent.analytics.pool_overview import quality_shares
    from prefect_intelligent.analytics.report import all_health, health_dict
    from prefect_intelligent.quality.past_results import past_results
    from prefect_intelligent.wiring.history import open_history, open_runs
    from prefect_intelligent.wiring.pipeline_graph import awaited_deployments, history_graph

    settings = read_settings(config, pool=pool).settings
    if not 0.5 <= target < 1:
        raise InvalidInputError("--target", target, "must be at least 0.5 and below 1")
    now_s = time.time()
    since_s = now_s - parse_span(last, what="--last")
    store = open_runs(settings)
    frame = store.run_frame(since_s=since_s, pool=settings.pool, extra=False)
    quality = quality_shares(past_results(open_history(settings)), history_graph(store).writers)
    prices = settings.prices_of(settings.pool or "")
    of_all = all_health(
        frame,
        now_s,
        target=target,
        quality=quality,
        prices=prices,
        budgets=settings.budgets_usd_per_day,
        awaited=awaited_deployments(store),
    )
    found = of_all[of]
    if name is not None:
        found = [health for health in found if health.name == name]
        if not found:
            raise InvalidInputError("--name", name, f"no run of it in the last {last}")
    degraded = any(health.status == "degraded" for health in found)
    if as_json:
        print_json([health_dict(health) for health in found])
        return int(degraded)
    if not found:
        print(f"not enough data: no run in the last {last}; has `prefect-intelligent sync` been run?")
        return 1
    from prefect_intelligent.cli.formatting import say
    from prefect_intelligent.cli.tables import print_table

    shown = [
        {
            "name": health.name,
            "status": str(health.status),
            "score": "-" if health.score is None else f"{health.score:.0f}",
            "good time": "-" if health.budget is None else f"{health.budget.attained:.2%}",
            "budget left": "-" if health.budget is None else f"{health.budget.left:.0%}",
            "why": "; ".join(health.gates) or "-",
        }
        for health in found[:_MOST_ROWS]
    ]
    print_table(shown, title=f"Health of {of}", text="why", drop=("good time", "budget left"))
    if len(found) > _MOST_ROWS:
        say(f"{len(found) - _MOST_ROWS} more, healthier ones; --json has them.")
    if name is not None:
        for term in found[0].terms:
            value = "unknown" if term.value is None else f"{term.value:.2f}"
            takes = found[0].contribution(term)
            say(f"{term.name:12} {value:8} n={term.n:<6} takes {takes:4.1f} points  {term.detail}")
    return int(degraded)

"""A deployable flow that syncs the history and writes a report as artifacts; schedule it every few minutes."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from prefect_intelligent.analytics.markdown_report import to_markdown
from prefect_intelligent.analytics.report import all_health, make_report
from prefect_intelligent.domain import parse_span
from prefect_intelligent.history.sync import sync
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.analytics import read_slots
from prefect_intelligent.wiring.history import open_history, open_runs, open_source
from prefect_intelligent.wiring.pipeline_graph import awaited_deployments


@flow
def report_history(pool: str, last: str = "7d") -> dict[str, Any]:
    """Copy what is new, then write the artifacts `<pool>-report` (Markdown) and `<pool>-money` (a table).

    Args:
        pool: Name of the work pool.
        last: How far the report looks back.

    Returns:
        How many runs were copied and reported on.
    """
    settings = load_settings({"pool": pool}).settings
    span_s = parse_span(last, what="last")
    store = open_runs(settings)
    copied = sync(open_source(), store, SystemClock(), events=False)
    now_s = time.time()
    runs = store.run_frame(since_s=now_s - span_s, pool=pool, extra=False)
    prices = settings.prices_of(pool)
    slots = read_slots(store, open_history(settings), pool)
    report = make_report(runs, since_s=now_s - span_s, until_s=now_s, prices=prices, slots=slots)
    found = all_health(
        runs,
        now_s,
        target=0.99,
        prices=prices,
        budgets=settings.budgets_usd_per_day,
        awaited=awaited_deployments(store),
    )
    health = found["deployments"]
    key = "".join(letter if letter.isalnum() else "-" for letter in pool.lower()).strip("-")
    create_markdown_artifact(to_markdown(report, health, span_s), key=f"{key}-report", description=f"The last {last}")
    money = [{"part": name.removesuffix("_usd"), "usd": value} for name, value in report["money"].items()]
    create_table_artifact(money, key=f"{key}-money", description=f"Money of the last {last}")
    return {"copied": copied.runs, "reported": len(runs)}

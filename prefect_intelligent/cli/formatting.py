"""How decisions are shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prefect_intelligent.domain.instants import in_zone
from prefect_intelligent.domain.spans import describe_span

console = Console(markup=False)  # names of queues may hold brackets


def limit(value: int | None) -> str:
    """A limit in words."""
    return "unlimited" if value is None else str(value)


def instant(at_s: float) -> str:
    """An instant in local time."""
    return in_zone(at_s).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """An age in words."""
    return f"{describe_span(seconds)} ago"


def change(row: tuple[str | None, str, int | None, int | None] | list[Any]) -> str:
    """One value that is or was to be written."""
    queue, which, before, after = row
    return f"{'pool' if queue is None else queue}: {which} {limit(before)} -> {limit(after)}"


def headline(decision: Mapping[str, Any]) -> str:
    """A decision on one line."""
    rows = decision["applied"] if decision["outcome"] in ("applied", "restored") else decision["planned"]
    what = "; ".join(change(row) for row in rows[:4]) + (f"; and {len(rows) - 4} more" if len(rows) > 4 else "")
    text = f"{instant(decision['at_s'])}  {decision['outcome']:<9}  {decision['wall_ms']:5.0f} ms"
    return f"{text}  {what}" if what else text


def annotation(message: str, *, title: str, file: str | None = None) -> str:
    """A finding as GitHub Actions reads it from the log, to show it at the pull request."""

    def escaped(text: str, more: str = "") -> str:
        for sign in ("%", "\r", "\n", *more):
            text = text.replace(sign, f"%{ord(sign):02X}")
        return text

    place = {"file": file, "title": title}
    words = ",".join(f"{name}={escaped(value, ':,')}" for name, value in place.items() if value)
    return f"::error {words}::{escaped(message)}"


def queue_table(decision: Mapping[str, Any]) -> Table:
    """Place (#1 is served first) and limit of every queue: held, wanted, permitted, applied, and the rule's."""
    title = f"Work pool {decision['pool']}, decided {instant(decision['at_s'])}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("queue", "wait", "run", "late", "held", "wanted", "permitted", "applied", "rule"):
        table.add_column(heading, overflow="fold")

    def wish(found: Mapping[str, Any] | None) -> str:
        if found is None:
            return "-"
        return f"#{found['place']}" + ("" if found["limit"] is None else f", {found['limit']}")

    for queue in decision["queues"]:
        counts = [str(queue[name]) for name in ("waiting", "active", "late")]
        plans = [wish(queue[name]) for name in ("held", "wanted", "permitted", "applied", "rule")]
        table.add_row(queue["name"], *counts, *plans)
    pool = decision["pool_limit"]
    if pool is not None:
        table.add_section()
        plans = [limit(pool[name]) for name in ("held", "wanted", "permitted", "applied", "rule")]
        table.add_row("pool limit", "", "", "", *plans)
    return table


def reasons(decision: Mapping[str, Any]) -> list[str]:
    """Why, queue by queue, then for the pool and the pass as a whole."""
    lines = [f"{queue['name']}: {'; '.join(queue['reasons'])}" for queue in decision["queues"]]
    pool = decision["pool_limit"]
    if pool is not None and pool["reasons"]:
        lines.append(f"pool limit: {'; '.join(pool['reasons'])}")
    return [*lines, *decision["reasons"]]

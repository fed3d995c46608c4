"""How decisions are shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from prefect_intelligent.cli.tables import print_table
from prefect_intelligent.domain.instants import in_zone
from prefect_intelligent.domain.spans import describe_span

console = Console(markup=False)  # names of queues may hold brackets


def say(line: str) -> None:
    """A line, never broken: a terminal folds it itself, a pipe gets it whole."""
    console.print(line, soft_wrap=True, highlight=False)


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


def queue_table(decision: Mapping[str, Any]) -> None:
    """Print place (#1 is served first) and limit of every queue: held, wanted, permitted, applied, and the rule's."""

    def wish(found: Mapping[str, Any] | None) -> str:
        if found is None:
            return "-"
        return f"#{found['place']}" + ("" if found["limit"] is None else f", {found['limit']}")

    rows = []
    for queue in decision["queues"]:
        counts = {short: str(queue[name]) for short, name in _COUNTS.items()}
        rows.append({"queue": queue["name"], **counts, **{name: wish(queue[name]) for name in _PLANS}})
    pool = decision["pool_limit"]
    if pool is not None:
        plans = {name: limit(pool[name]) for name in _PLANS}
        rows.append({"queue": "pool limit", **dict.fromkeys(_COUNTS, "-"), **plans})
    title = f"Work pool {decision['pool']}, decided {instant(decision['at_s'])}"
    print_table(rows, title=title, drop=("rule", "wanted", "permitted"))


_COUNTS: Final = {"wait": "waiting", "run": "active", "late": "late"}
_PLANS: Final = ("held", "wanted", "permitted", "applied", "rule")


def reasons(decision: Mapping[str, Any]) -> list[str]:
    """Why, queue by queue, then for the pool and the pass as a whole."""
    lines = [f"{queue['name']}: {'; '.join(queue['reasons'])}" for queue in decision["queues"]]
    pool = decision["pool_limit"]
    if pool is not None and pool["reasons"]:
        lines.append(f"pool limit: {'; '.join(pool['reasons'])}")
    return [*lines, *decision["reasons"]]

"""A short report in Markdown, for an artifact in Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from prefect_intelligent.analytics.health import Health
from prefect_intelligent.domain.spans import format_span

_ROWS: Final = 10
_MARKS: Final = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+!|~"})


def to_markdown(report: Mapping[str, Any], health: Sequence[Health], span_s: float) -> str:
    """The report and the health of deployments as Markdown; names and messages are escaped.

    Args:
        report: As from `analytics.report.make_report`.
        health: Health of deployments, worst first.
        span_s: Span of the report, seconds.
    """
    total, money = report["total"], report["money"]
    if total["runs"] == 0:
        return f"Not enough data: no run in the last {format_span(span_s)}.\n"
    parts = [f"{name.removesuffix('_usd')} {_usd(value)}" for name, value in money.items() if name != "total_usd"]
    lines = [
        f"## The last {format_span(span_s)}",
        "",
        f"{total['runs']} runs, {_share(total['failure_share'])} failed, {_share(total['on_time_share'])} on time, "
        f"{_usd(money['total_usd'])}: {', '.join(parts)}.",
        "",
    ]
    unhealthy = [found for found in health if found.status in ("degraded", "warning")][:_ROWS]
    rows = [[found.name, found.status, _score(found.score), "; ".join(found.gates)] for found in unhealthy]
    lines += _table("Health", ("deployment", "status", "score", "why"), rows)
    rows = [
        [cause["signature"], cause["failures"], ", ".join(cause["deployments"][:3]), cause["introduced_by"] or "-"]
        for cause in report["causes"][:_ROWS]
    ]
    lines += _table("Failures by cause", ("cause", "runs", "deployments", "came with"), rows)
    most_expensive = list(report["by"].get("deployment", {}).items())[:_ROWS]
    rows = [[name, row["runs"], _usd(row["cost_usd"]), _share(row["on_time_share"])] for name, row in most_expensive]
    lines += _table("Dearest deployments", ("deployment", "runs", "cost", "on time"), rows)
    return "\n".join(lines) + "\n"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    cells = [" | ".join(" ".join(str(cell).translate(_MARKS).split()) for cell in row) for row in rows]
    head = [f"### {title}", "", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    return [*head, *(f"| {row} |" for row in cells), ""]


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"${value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

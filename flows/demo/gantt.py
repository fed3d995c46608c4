"""The runs of an arm as SVG: when each was scheduled, waited, started, worked, and was late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

ORDER = ("ingest", "refine", "marts", "reports", "reference", "backfill")
"""Queues from top to bottom, by falling price of lateness; also the order of the chain."""
ROW, GAP, LEFT, TOP, BOTTOM, RIGHT = 9, 8, 74, 8, 24, 10

STYLE = """
text { font: 11px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--rule); stroke-width: 1; }
.wait { stroke: var(--wait); stroke-width: 1.5; stroke-dasharray: 2 2; }
.start { fill: var(--work); opacity: .45; }
.work { fill: var(--work); }
.late { fill: var(--late); }
.due { stroke: var(--ink); stroke-width: 1.2; }
.backfill .work, .backfill .start { fill: var(--idle); }
"""
LIGHT = "--paper:#ffffff;--ink:#22262b;--rule:#e3e6ea;--wait:#9aa3ad;--work:#2f6db3;--late:#cf3f36;--idle:#b4bcc6"
DARK = "--paper:#14171a;--ink:#d7dce1;--rule:#2a2f35;--wait:#6b7580;--work:#6aa5e8;--late:#f0685f;--idle:#4c555f"


def end_s(arm: Mapping[str, Any]) -> float:
    """Seconds from the beginning of an arm to its last end."""
    return max(_at_s(arm, run["finished"]) for run in arm["runs"])


def draw_arm(arm: Mapping[str, Any], span_s: float, width: int) -> tuple[str, int]:
    """Draw one arm.

    Args:
        arm: As in the result.
        span_s: Seconds that the width stands for; the same in all arms, so that they can be compared.
        width: Width in pixels.

    Returns:
        SVG elements (no outer tag) and their height in pixels.
    """
    scale = (width - LEFT - RIGHT) / span_s
    parts: list[str] = []
    y = TOP
    for queue in ORDER:
        runs = sorted(
            (run for run in arm["runs"] if run["queue"] == queue), key=lambda run: (run["started"], run["id"])
        )
        if not runs:
            continue
        parts.append(f'<text x="{LEFT - 8}" y="{y + ROW - 1}" text-anchor="end">{escape(queue)}</text>')
        parts.append(f'<g class="{escape(queue)}">')
        for run in runs:
            parts.append(_draw_run(arm, run, y, scale))
            y += ROW
        parts.append("</g>")
        y += GAP
    height = y + BOTTOM - GAP
    return _axis(span_s, scale, y, width) + "".join(parts), height


def _draw_run(arm: Mapping[str, Any], run: Mapping[str, Any], y: float, scale: float) -> str:
    """One run as a row: a dashed line while it waits, pale while it starts, red after its due instant."""
    scheduled, started, running, finished = (
        _at_s(arm, run[name]) for name in ("scheduled", "started", "running", "finished")
    )
    due = None if run["due"] is None else _at_s(arm, run["due"])
    middle, x = y + ROW / 2, [LEFT + max(0.0, at) * scale for at in (scheduled, started, running, finished)]
    title = f"{run['deployment']}: waited {run['wait_s']:.1f} s" + (
        f", {run['late_s']:.1f} s late" if run["late_s"] > 0 else ", in time"
    )
    parts = [f"<g><title>{escape(title)}</title>"]
    if x[1] - x[0] > 1:
        parts.append(f'<line class="wait" x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{middle}" y2="{middle}"/>')
    parts.append(_bar("start", x[1], x[2], y))
    parts.append(_bar("work", x[2], x[3], y))
    if due is not None and finished > due:
        at = LEFT + max(due, started) * scale
        parts.append(_bar("late", at, x[3], y))
        if due < started:
            parts.append(f'<line class="wait" style="stroke:var(--late)" x1="{LEFT + due * scale:.1f}" x2="{x[1]:.1f}" '
                         f'y1="{middle}" y2="{middle}"/>')  # fmt: skip
        at = LEFT + due * scale
        parts.append(f'<line class="due" x1="{at:.1f}" x2="{at:.1f}" y1="{y + 1}" y2="{y + ROW - 1}"/>')
    return "".join(parts) + "</g>"


def _bar(kind: str, left: float, right: float, y: float) -> str:
    return f'<rect class="{kind}" x="{left:.1f}" y="{y + 1}" width="{max(0.5, right - left):.1f}" height="{ROW - 2}"/>'


def _axis(span_s: float, scale: float, bottom: float, width: int) -> str:
    """Vertical lines with seconds below them."""
    step = next(step for step in (10, 20, 30, 60, 120, 300, 600, 1200) if span_s / step <= 8 or step == 1200)
    parts = []
    for at in range(0, int(span_s) + 1, step):
        x = LEFT + at * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom}"/>')
        if x < width - RIGHT:
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{at} s</text>')
    return "".join(parts)


def _at_s(arm: Mapping[str, Any], instant: str) -> float:
    """Seconds from the beginning of the arm to an ISO instant."""
    return (datetime.fromisoformat(instant) - datetime.fromisoformat(arm["begin"])).total_seconds()


def draw_picture(result: Mapping[str, Any], arms: Sequence[tuple[str, str]], each: int = 480) -> str:
    """A whole SVG file: one panel per arm with its figures above; follows the reader's light or dark theme.

    Args:
        result: The result of a demo.
        arms: Name and heading of each panel.
        each: Width of a panel in pixels.
    """
    span_s = 1.02 * max(end_s(result[name]) for name, _ in arms)
    width, head, parts, tallest = each * len(arms), 58, [], 0
    for index, (name, heading) in enumerate(arms):
        arm = result[name]
        drawn, height = draw_arm(arm, span_s, each)
        tallest = max(tallest, height)
        figures = f"{arm['late_runs']} of {len(arm['runs'])} runs late, weighted {arm['weighted_late_minutes']:.1f} min"
        parts.append(
            f'<g transform="translate({index * each},0)">'
            f'<text x="{LEFT}" y="24" style="font-size:15px;font-weight:600">{escape(heading)}</text>'
            f'<text x="{LEFT}" y="44" style="font-size:13px">{figures}, {arm["cost_usd"]:.2f} USD</text>'
            f'<g transform="translate(0,{head})">{drawn}</g></g>'
        )
    height = head + tallest + 26
    legend = _legend(height - 10)
    label = f"Runs of the demo: {', '.join(name for name, _ in arms)}"
    style = f":root{{{LIGHT}}}@media(prefers-color-scheme:dark){{:root{{{DARK}}}}}{STYLE}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}"><style>{style}</style>'
        f'<rect width="{width}" height="{height}" style="fill:var(--paper)"/>{"".join(parts)}{legend}</svg>\n'
    )


def _legend(y: int) -> str:
    """What the marks mean, in one line."""
    parts, x = [], LEFT
    for mark, text in (
        ('<line class="wait" x1="0" x2="22" y1="-4" y2="-4"/>', "waits for a slot"),
        ('<rect class="start" width="22" height="7" y="-8"/>', "starts up"),
        ('<rect class="work" width="22" height="7" y="-8"/>', "works"),
        ('<g class="backfill"><rect class="work" width="22" height="7" y="-8"/></g>', "backfill"),
        ('<rect class="late" width="22" height="7" y="-8"/>', "past its due instant"),
    ):
        parts.append(f'<g transform="translate({x},{y})">{mark}<text x="28">{text}</text></g>')
        x += 46 + 6 * len(text) + 14
    return "".join(parts)

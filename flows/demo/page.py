"""The page of a result: all arms side by side, the figures, and every run; one file without external resources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flows.demo.arm_plan import HEADINGS, arms_of
from flows.demo.gantt import DARK, LIGHT, ORDER, STYLE, draw_arm, end_s
from flows.demo.outcome import FIGURES, policies_of, ranges, title_of, warn_if_incomparable
from flows.demo.quality import describe_quality
from flows.fill_template import fill_template


def write_html(result: Mapping[str, Any]) -> str:
    """The page of the result of a demo."""
    arms = arms_of(result)
    span_s = 1.02 * max(end_s(result[arm]) for arm in arms)
    used = [queue for queue in ORDER if any(result[arm]["start_places"][queue] for arm in arms)]
    return fill_template(
        "demo.html",
        title=title_of(result),
        policies=policies_of(result),
        light=LIGHT,
        dark=DARK,
        chart_style=STYLE,
        context=result["context"],
        versions=json.dumps(result["context"], indent=2),
        arms=[_panel(arm, result[arm], span_s) for arm in arms],
        figures=[(label, [form.format(result[arm][key]) for arm in arms]) for label, key, form in FIGURES],
        places=[(queue, [ranges(result[arm]["start_places"][queue]) for arm in arms]) for queue in used],
        warning=warn_if_incomparable(result),
        quality=describe_quality(result["quality"]) if "quality" in result else None,
        runs=list(zip(*(result[arm]["runs"] for arm in arms), strict=True)),
    )


def _panel(name: str, arm: Mapping[str, Any], span_s: float) -> dict[str, Any]:
    """One arm: its heading and its chart, SVG elements."""
    chart, height = draw_arm(arm, span_s, 640)
    return {"name": name, "heading": HEADINGS[name], "chart": chart, "height": height, "decisions": arm["decisions"]}

"""The saved page: both arms side by side, the figures, and every run; one file without outside resources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flows.demo.gantt import DARK, LIGHT, ORDER, STYLE, draw_arm, end_s
from flows.demo.outcome import FIGURES, ranges, warn_if_unlike
from flows.demo.quality_act import say_quality

HEADINGS = {"default": "Prefect's defaults", "steered": "Steered"}

CSS = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 1360px; padding: 1.5rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.05rem; margin: 0 0 .3rem; }}
.arms {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 1.2rem; margin: 1.2rem 0; }}
.arm {{ border: 1px solid var(--rule); border-radius: 8px; padding: .9rem; overflow-x: auto; }}
.arm svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--rule); }}
td:first-child, th:first-child {{ text-align: left; }}
.key {{ margin-top: .9rem; }}
.key span {{ display: inline-block; width: 22px; height: 8px; margin: 0 .35rem 0 1rem; vertical-align: middle; }}
p.note, .key, details {{ font-size: .88rem; }} pre {{ overflow-x: auto; }}
{STYLE}
"""


def write_html(result: Mapping[str, Any], arms: Sequence[str]) -> str:
    """The page of a result."""
    span_s = 1.02 * max(end_s(result[arm]) for arm in arms)
    panels = "".join(_panel(result[arm], HEADINGS.get(arm, arm), span_s) for arm in arms)
    context = result["context"]
    first = result[arms[0]]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>One morning of flights, twice</title><style>{CSS}</style></head><body>
<h1>One morning of flights, twice</h1>
<p>The same {len(first["runs"])} runs, submitted in the same order at the same offsets to the same Prefect work pool
with two slots. Steering only ever changed queue priorities and limits (policy <b>{escape(context["policy"])}</b>).</p>
{_figures(result, arms)}
{_unlike(result)}
<div class="key">A row is a run.<span style="border-top:2px dashed var(--wait);height:0"></span>waits for a slot
<span style="background:var(--work);opacity:.45"></span>starts up<span style="background:var(--work)"></span>works
<span style="background:var(--idle)"></span>backfill
<span style="background:var(--late)"></span>past its due instant</div>
<div class="arms">{panels}</div>
{_quality(result)}
<h2>Every run</h2>{_runs(result, arms)}
<p class="note">Late minutes, weighted: {escape(context["weighted_late_minutes"])}.</p>
<details><summary>Versions and prices</summary><pre>{escape(json.dumps(context, indent=2))}</pre></details>
</body></html>
"""


def _panel(arm: Mapping[str, Any], heading: str, span_s: float) -> str:
    drawn, height = draw_arm(arm, span_s, 640)
    return (
        f'<div class="arm"><h2>{escape(heading)}</h2><svg viewBox="0 0 640 {height}" role="img" '
        f'aria-label="Runs over time, {escape(heading)}">{drawn}</svg></div>'
    )


def _figures(result: Mapping[str, Any], arms: Sequence[str]) -> str:
    """The table of the terminal, as HTML."""
    body = "".join(
        f"<tr><td>{label}</td>{''.join(f'<td>{form.format(result[arm][key])}</td>' for arm in arms)}</tr>"
        for label, key, form in FIGURES
    )
    places = "".join(
        f"<tr><td>{queue}: places in the order of starts</td>"
        + "".join(f"<td>{ranges(result[arm]['start_places'][queue])}</td>" for arm in arms)
        + "</tr>"
        for queue in ORDER
        if any(result[arm]["start_places"][queue] for arm in arms)
    )
    head = "".join(f"<th>{escape(HEADINGS.get(arm, arm))}</th>" for arm in arms)
    return f"<table><tr><th></th>{head}</tr>{body}{places}</table>"


def _unlike(result: Mapping[str, Any]) -> str:
    """A warning if the mornings cannot be compared."""
    warning = warn_if_unlike(result)
    return "" if warning is None else f"<p><b>{escape(warning)}</b></p>"


def _quality(result: Mapping[str, Any]) -> str:
    """What the quality gate did, if it was shown."""
    return f"<p>{escape(say_quality(result['quality']))}</p>" if "quality" in result else ""


def _runs(result: Mapping[str, Any], arms: Sequence[str]) -> str:
    """One line per run: how long it waited and how late it was in each arm."""
    head = "".join(f"<th>{escape(arm)}: waited, s</th><th>late, s</th>" for arm in arms)
    lines = []
    for runs in zip(*(result[arm]["runs"] for arm in arms), strict=True):
        cells = "".join(f"<td>{run['wait_s']:.1f}</td><td>{_late(run['late_s'])}</td>" for run in runs)
        run = runs[0]
        lines.append(
            f"<tr><td>{escape(run['deployment'])}</td><td>{escape(run['queue'])}</td><td>{run['offset_s']:.1f}</td>"
            f"<td>{run['late_usd_per_hour']:g}</td>{cells}</tr>"
        )
    return (
        "<details><summary>Waits and lateness</summary><table><tr><th>deployment</th><th>queue</th>"
        f"<th>scheduled, s</th><th>USD per hour late</th>{head}</tr>{''.join(lines)}</table></details>"
    )


def _late(late_s: float) -> str:
    """Seconds late, or that it was in time."""
    return f"{late_s:.1f}" if late_s > 0 else "in time"

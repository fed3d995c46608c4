"""A replay as one self-contained page: the table, cost against lateness, and who ran when."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.errors import MissingExtraError

if TYPE_CHECKING:
    from prefect_intelligent.replay.adapters.recording_file import Recording
    from prefect_intelligent.replay.replay import ReplayResult

_COLOURS: Final = ("#3b6fb6", "#c8553d", "#4f9d69", "#8e6bb0", "#b08a3e", "#3c9aa8", "#a8486e", "#6b7280")
_MOST_BARS: Final = 3000
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def write_page(path: Path, recording: Recording, found: Sequence[ReplayResult]) -> None:
    """Write the page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the page of a replay", "twin") from error
    best = min(found, key=lambda each: each.cost.total_usd)
    shown = [found[0]] + ([best] if best is not found[0] else [])
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(sorted(set(found[0].runs["queue"])))}
    span_s = max(float(each.runs["ended_s"].max()) for each in shown) - float(found[0].runs["scheduled_s"].min())
    page = _TEMPLATES.get_template("report.html").render(
        pool=recording.pool.name,
        limit="no limit" if recording.pool.limit is None else f"limit {recording.pool.limit}",
        runs=len(found[0].runs),
        span=describe_span(span_s),
        results=found,
        proven=[each.policy for each in found if (each.saving_low_usd or 0.0) > 0],
        tradeoff=_tradeoff(Figure, found),
        gantt=_gantt(Figure, shown, colours, span_s),
    )
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


def _tradeoff(figure_of: Any, found: Sequence[ReplayResult]) -> str:
    """Cost of capacity against cost of lateness, one dot per policy, as SVG."""
    figure = figure_of(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    places: dict[tuple[float, float], list[str]] = {}
    for each in found:
        place = (round(each.cost.lateness_usd, 2), round(each.cost.capacity_usd, 4))
        places.setdefault(place, []).append(each.policy)
    for at, (place, names) in enumerate(places.items()):
        axes.scatter(*place, s=60, color=_COLOURS[at % len(_COLOURS)], zorder=3)
        axes.annotate(", ".join(names), place, xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.margins(x=0.15, y=0.25)
    axes.set_xlim(left=min(0.0, -0.03 * max(each.cost.lateness_usd for each in found)))
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("lateness, USD")
    axes.set_ylabel("capacity, USD")
    _plain(axes)
    return _svg(figure)


def _gantt(figure_of: Any, shown: Sequence[ReplayResult], colours: dict[str, str], span_s: float) -> str:
    """A bar per run, on the lowest slot that is free when it starts."""
    figure = figure_of(figsize=(8, 2.6 * len(shown) + 0.6), layout="constrained")
    unit, size = ("hours", 3600.0) if span_s > 2 * 3600 else ("minutes", 60.0)
    for at, each in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, at + 1)
        runs = each.runs.dropna(subset=["started_s", "ended_s"]).sort_values("started_s").head(_MOST_BARS)
        begin_s = float(each.runs["scheduled_s"].min())
        free: list[float] = []
        for started, ended, due, queue in runs[["started_s", "ended_s", "due_s", "queue"]].itertuples(index=False):
            slot = next((place for place, until in enumerate(free) if until <= started + 1e-6), len(free))
            free[slot : slot + 1] = [ended]
            late = bool(np.isfinite(due) and ended > due)
            axes.barh(
                slot,
                (ended - started) / size,
                left=(started - begin_s) / size,
                color=colours[str(queue)],
                edgecolor="#222" if late else "white",
                linewidth=1.0 if late else 0.3,
            )
        axes.set_title(each.policy, loc="left", fontsize=10)
        axes.set_yticks([])
        axes.set_ylabel("slots")
        axes.set_xlim(0, span_s / size)
        _plain(axes)
    axes.set_xlabel(unit)
    handles = [_patch(colour, name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False, fontsize=8)
    return _svg(figure)


def _patch(colour: str, name: str) -> Any:
    """A coloured square of the legend."""
    from matplotlib.patches import Patch

    return Patch(color=colour, label=name)


def _plain(axes: Any) -> None:
    """Axes without a frame."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", alpha=0.2)


def _svg(figure: Any) -> str:
    """The figure as an SVG element; text is drawn as text, names are escaped by matplotlib."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "replay"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)

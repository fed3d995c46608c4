"""Pictures of an evaluation: ratios and gap per case, performance profiles, cost against lateness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rl.comparisons import CLAIRVOYANT, PLANNER, TUNED

_OURS, _RIVAL, _BEST, _GREY = "#0b7285", "#e8590c", "#2b8a3e", "#868e96"
_PROFILED: Final = 6


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures for which the report has data; returns the files written."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = [_cases(report, folder / "cases.png"), _profiles(report, folder / "profiles.png")]
    if report["context"].get("front"):
        drawn.append(_front(report["context"]["front"], report["context"]["ours"], folder / "front.png"))
    return [path for path in drawn if path is not None]


def draw_curves(progress: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Draw the savings of a training and the validation ratios of its checkpoints."""
    import matplotlib

    matplotlib.use("Agg")
    figure, axes = _new(6.5, 4.0)
    saved = [(entry["update"], entry["saved_percent"]) for entry in progress if "saved_percent" in entry]
    ratios = [(entry["update"], entry["validation_ratio"]) for entry in progress if "validation_ratio" in entry]
    if saved:
        axes.plot(*zip(*saved, strict=True), color=_GREY, label="saved against the base rule, % of a day (left)")
    axes.set_xlabel("update")
    axes.set_ylabel("% of a day's cost")
    right = axes.twinx()
    if ratios:
        right.plot(*zip(*ratios, strict=True), "o-", color=_OURS, label="validation cost over the base rule's (right)")
    right.axhline(1.0, color="black", linewidth=0.8)
    figure.legend(fontsize=8, loc="outside upper center")
    return _save(figure, path)


def _new(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color="#e9ecef")
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _cases(report: Mapping[str, Any], path: Path) -> Path | None:
    """Cost over the tuned rule's, case by case, with the clairvoyant planner as the other end of the gap."""
    against = report["context"]["against"]
    if TUNED not in against:
        return None
    ours: Mapping[str, Any] = against[TUNED]["cases"]
    best = report["context"]["vs_tuned"]
    names = list(ours)[::-1]
    rows = range(len(names))
    figure, axes = _new(7.5, 1.2 + 0.24 * len(names))
    values = [ours[name]["value"] for name in names]
    below = [ours[name]["value"] - ours[name]["low"] for name in names]
    above = [ours[name]["high"] - ours[name]["value"] for name in names]
    if CLAIRVOYANT in best:
        ends = [best[CLAIRVOYANT][name] for name in names]
        axes.hlines(rows, ends, 1.0, color="#ced4da", linewidth=3, label="gap to the clairvoyant planner")
        axes.plot(ends, rows, "|", color=_BEST, markersize=9, label="clairvoyant planner")
    if PLANNER in best:
        axes.plot(
            [best[PLANNER][name] for name in names], rows, "d", color=_RIVAL, markersize=4, label="planner online"
        )
    axes.errorbar(
        values, rows, xerr=[below, above], fmt="o", color=_OURS, markersize=4, label=report["context"]["ours"]
    )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.axvline(1.05, color="#c92a2a", linewidth=0.8, linestyle=":")
    axes.set_yticks(list(rows), names, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("cost over the tuned rule's (95 % interval); left of 1 is better")
    axes.legend(fontsize=8, loc="lower left")
    return _save(figure, path)


def _profiles(report: Mapping[str, Any], path: Path) -> Path | None:
    """Performance profiles: share of the paired episodes whose cost ratio to a rival is at most x."""
    against = report["context"]["against"]
    if not against:
        return None
    figure, axes = _new(6.5, 4.2)
    chosen: Sequence[str] = sorted(against, key=lambda name: -against[name]["ratio"]["value"])[:_PROFILED]
    for name in chosen:
        profile = against[name]["profile"]
        axes.plot([float(at) for at in profile], list(profile.values()), marker=".", label=f"against {name}")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("cost over the rival's, at most")
    axes.set_ylabel("share of the episodes")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    return _save(figure, path)


def _front(front: Mapping[str, Sequence[Mapping[str, float]]], ours: str, path: Path) -> Path:
    """Capacity cost against weighted lateness at several prices of lateness; other policies are single points."""
    figure, axes = _new(6.5, 4.6)
    for name, points in front.items():
        x = [point["weighted_late_hours"] for point in points]
        y = [point["capacity_usd"] for point in points]
        if name in (ours, TUNED):
            axes.plot(x, y, marker="o", color=_OURS if name == ours else _RIVAL, label=f"{name}, dial turned", zorder=3)
            for point in points:
                at = (point["weighted_late_hours"], point["capacity_usd"])
                axes.annotate(f"{point['dial']:g}", at, fontsize=7, xytext=(4, 4), textcoords="offset points")
        else:
            axes.plot(x[:1], y[:1], "o", color=_GREY, markersize=5)
            axes.annotate(name, (x[0], y[0]), fontsize=7, color=_GREY, xytext=(4, -8), textcoords="offset points")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlabel("lateness, hours times price (geometric mean of days)")
    axes.set_ylabel("capacity, US dollars a day (geometric mean)")
    axes.legend(fontsize=8)
    return _save(figure, path)

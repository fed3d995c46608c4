"""Write an evaluation as a folder: the report as JSON, a page in Markdown, pictures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rl.evaluation.comparisons import CLAIRVOYANT, PLANNER, TUNED, interval_text
from rl.evaluation.figures import draw


def write_report(report: Mapping[str, Any], folder: Path) -> Path:
    """Write `<folder>/<suite>/` with report.json, README.md and pictures; returns that folder.

    An existing folder is kept; the new one then gets a number: `<suite>-2`.
    """
    named = "-".join(Path(name).stem for name in str(report["context"]["suite"]).split())
    factor = report["context"]["regime"]["pool_factor"]
    named += "-unbounded" if factor is None else f"-{factor:g}x"
    place = next(place for place in _places(folder, named) if not place.exists())
    place.mkdir(parents=True)
    pictures = draw(report, place)
    (place / "README.md").write_text(page(report, [path.name for path in pictures]), encoding="utf-8")
    (place / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return place


def _places(folder: Path, named: str) -> Iterator[Path]:
    yield folder / named
    yield from (folder / f"{named}-{number}" for number in itertools.count(2))


def page(report: Mapping[str, Any], pictures: list[str]) -> str:
    """The report as Markdown."""
    context = report["context"]
    seeds = f"{context['training_seeds']} training seed{'s' if context['training_seeds'] > 1 else ''}"
    lines = [
        f"# {context['ours']} on suite {context['suite']}: {context['verdict']}",
        "",
        f"{len(context['groups'])} cases of at least {context['episodes_per_case']} paired episodes, {seeds}; planners "
        f"play the first {context['planner_episodes_per_case']}. "
        "Ratios of cost, below 1 is better, geometric means "
        "with 95 % intervals from a bootstrap over training seeds and episodes, stratified by case.",
        "",
        f"Regime: {context['regime']['name']}.",
        "",
        f"Commit {context['commit']}, data {context['data_sha256']}, weights {context['weights_sha256'] or 'several'}, "
        f"{context['seconds']:.0f} s.",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| `{name}` | {value:.4f} |" for name, value in report["figures"].items()),
        "",
        "## Against each policy",
        "",
        "| against | ratio | interquartile mean | better on |",
        "|---|---|---|---|",
    ]
    for rival, found in context["against"].items():
        better = found["probability_of_improvement"]
        iqm = interval_text(found["iqm_ratio"])
        lines.append(f"| {rival} | {interval_text(found['ratio'])} | {iqm} | {better:.0%} |")
    if context["against_bound"]:
        lines.append(f"| lower bound | {interval_text(context['against_bound']['ratio'])} | | |")
    lines += ["", *_by_case(context), *_means(context)]
    lines += [line for name in pictures for line in (f"![{Path(name).stem}]({name})", "")]
    if context["left_out"]:
        lines += ["Left out:", "", *(f"- {line}" for line in context["left_out"]), ""]
    return "\n".join(lines)


def _by_case(context: Mapping[str, Any]) -> list[str]:
    """Case by case against the tuned rule, with the ratios of the planners."""
    if TUNED not in context["against"]:
        return []
    planners = [name for name in (CLAIRVOYANT, PLANNER) if name in context["vs_tuned"]]
    lines = [
        "## Case by case, over the tuned rule",
        "",
        "| case | kind | ratio |" + "".join(f" {name} |" for name in planners),
        "|---|---|---|" + "---|" * len(planners),
    ]
    for case, found in context["against"][TUNED]["cases"].items():
        rest = "".join(f" {context['vs_tuned'][name][case]:.3f} |" for name in planners)
        lines.append(f"| {case} | {context['groups'][case]} | {interval_text(found)} |{rest}")
    for group, found in context["against"][TUNED]["groups"].items():
        lines.append(f"| all {group} | | {interval_text(found)} |" + " |" * len(planners))
    return [*lines, ""]


def _means(context: Mapping[str, Any]) -> list[str]:
    """Mean figures per case, of a few policies."""
    chosen = [context["ours"], TUNED, context["best_rule"], "prefect-default", CLAIRVOYANT, "lower bound"]
    lines = [
        "## Means per episode",
        "",
        "| case | policy | cost, USD | capacity | lateness | late, h x price | missed | p95 wait, s | p99 wait, s | "
        "late CVaR-95, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, found in context["means"].items():
        for name in dict.fromkeys(name for name in chosen if name in found):
            m = found[name]
            if len(m) == 1:
                lines.append(f"| {case} | {name} | {m['cost_usd']:.2f} |" + " |" * 7)
                continue
            lines.append(
                f"| {case} | {name} | {m['cost_usd']:.2f} | {m['capacity_usd']:.2f} | {m['lateness_usd']:.2f} | "
                f"{m['weighted_late_hours']:.2f} | {m['miss_rate']:.1%} | {m['wait_p95_s']:.0f} | "
                f"{m['wait_p99_s']:.0f} | {m['late_cvar95_s']:.0f} |"
            )
    return [*lines, ""]

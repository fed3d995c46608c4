"""Pictures of the validation study: the twin against queueing formulas and against a real Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np

from simulations.against_prefect.comparison import twin_days
from simulations.against_prefect.recording import RecordedDay
from simulations.theory import Check, erlang_c, sweep

mpl.use("Agg")

_UTILISATIONS: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
_BLUE, _RED, _GREY = "#3f7fb5", "#b5403f", "#777777"


def draw_theory(path: Path, found: Sequence[Check], customers: int, seed: int) -> None:
    """Draw mean waits of M/M/c over utilisation, and the deviation of every check in half widths of its interval."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(1, 1.1))
    grid = np.linspace(0.48, 0.92, 100)
    for servers, colour in ((1, _RED), (4, _BLUE), (16, _GREY)):
        exact = [erlang_c(servers, servers * u) / (servers - servers * u) for u in grid]
        left.plot(grid, exact, color=colour, linewidth=1.2, label=f"M/M/{servers}, exact")
        points = sweep(servers, _UTILISATIONS, customers // 4, seed)
        means, halves = [each.twin for each in points], [each.half_width for each in points]
        left.errorbar(_UTILISATIONS, means, yerr=halves, color=colour, fmt="o", markersize=3.5, capsize=3, linewidth=1)
    left.set_yscale("log")
    left.set_xlabel("utilisation")
    left.set_ylabel("mean wait, service times")
    left.set_title("Twin (points, 99 % intervals) on the formula", fontsize=10)
    left.legend(fontsize=8, frameon=False)
    off = [(each.twin - each.theory) / each.half_width for each in found]
    names = [f"{each.case}: {each.figure}" for each in found]
    place = np.arange(len(found))[::-1]
    right.axvspan(-1, 1, color="#eef3f7")
    right.axvline(0, color=_GREY, linewidth=0.8)
    right.plot(off, place, "o", color=_BLUE, markersize=4)
    right.set_yticks(place, names, fontsize=6.5)
    right.set_xlim(-2, 2)
    right.set_xlabel("deviation, half widths of the interval")
    right.set_title("Every check; the band is the interval", fontsize=10)
    _save(figure, path)


def draw_prefect(path: Path, day: RecordedDay, worlds: int, seed: int) -> None:
    """Draw how long runs waited for a slot: the recorded day as points, the twin's days as a band."""
    import matplotlib.pyplot as plt

    queues, number_of = day.plan.queues, day.plan.queue
    claimed = twin_days(day, worlds, seed).state.runs["first_claimed_s"][:, : len(number_of)]
    waits = np.maximum(claimed - day.scheduled_s, 0.0)
    real = np.maximum(day.claimed_s - day.scheduled_s, 0.0)
    figure, axes = plt.subplots(1, len(queues), figsize=(10, 3.2), sharey=True)
    for number, (queue, axis) in enumerate(zip(queues, axes, strict=True)):
        chosen = number_of == number
        share = (np.arange(chosen.sum()) + 1) / chosen.sum()
        each = np.sort(waits[:, chosen], axis=1)
        low, high = np.quantile(each, [0.05, 0.95], axis=0)
        axis.fill_betweenx(share, low, high, color=_BLUE, alpha=0.25, linewidth=0, label="twin, 90 % of days")
        axis.plot(each.mean(axis=0), share, color=_BLUE, linewidth=1, label="twin, mean")
        axis.plot(np.sort(real[chosen]), share, "o", color=_RED, markersize=3, label="real Prefect")
        limit = "" if queue.limit is None else f", limit {queue.limit}"
        axis.set_title(f"{queue.name} (priority {queue.priority}{limit})", fontsize=10)
        axis.set_xlabel("wait for a slot, s")
        axis.set_ylim(0, 1.02)
    axes[0].set_ylabel("share of runs")
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """Write the picture, atomically."""
    import matplotlib.pyplot as plt

    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=110, format="png")
    plt.close(figure)
    part.replace(path)

"""Error budget of a deployment: time during which its output was late or missing.

Shares of runs are too coarse for batch pipelines: one late run a month of a daily pipeline is already 3 % of its runs.
Here time is bad from the instant an output was due until it is there, so a pipeline that is ninety minutes late once
has spent ninety minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

DEFAULT_TARGET: Final = 0.99
WINDOW_S: Final = 30 * 86400.0

BURN_RULES: Final = (
    # (long window, short window, burn rate, what to do): SRE workbook, chapter 5
    (3600.0, 300.0, 14.4, "page"),
    (21600.0, 1800.0, 6.0, "page"),
    (259200.0, 21600.0, 1.0, "ticket"),
)

Interval = tuple[float, float]


def bad_intervals(runs: pd.DataFrame, now_s: float) -> list[Interval]:
    """Intervals in which the output of one deployment was late or missing, disjoint and in order.

    A completed run is bad from its due instant to its end. The output of a failed run is missing from its due instant
    (or its end, if that is later or it has none) until the next completed run ends, or until now. A run that has not
    ended is bad from its due instant until now.
    """
    ended = runs["ended_s"].to_numpy(dtype=float)
    due = runs["due_s"].to_numpy(dtype=float)
    completed = (runs["state"] == "COMPLETED").to_numpy()
    failed = runs["failed"].to_numpy(dtype=bool)
    good_ends = np.sort(ended[completed & np.isfinite(ended)])
    found: list[Interval] = []
    late = completed & (ended > due)
    found.extend(zip(due[late].tolist(), ended[late].tolist(), strict=True))
    for row in np.flatnonzero(failed & np.isfinite(ended)):
        start = max(ended[row], due[row]) if np.isfinite(due[row]) else ended[row]
        following = int(np.searchsorted(good_ends, ended[row], side="right"))
        end = float(good_ends[following]) if following < len(good_ends) else now_s
        if end > start:
            found.append((float(start), end))
    open_late = ~np.isfinite(ended) & (due < now_s)
    found.extend((float(start), now_s) for start in due[open_late])
    return merge_intervals(found)


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of intervals as disjoint ones, in order."""
    out: list[Interval] = []
    for start, end in sorted(intervals):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif end > start:
            out.append((start, end))
    return out


def overlap_s(intervals: Iterable[Interval], since_s: float, until_s: float) -> float:
    """Seconds of disjoint intervals that fall between two instants."""
    return sum(max(0.0, min(end, until_s) - max(start, since_s)) for start, end in intervals)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """The error budget of one deployment.

    Attributes:
        target: Share of time that must be good, below 1.
        attained: Share of time in the window that was good.
        budget_s: Bad seconds that the target allows in the window.
        spent_s: Bad seconds in the window so far.
        burn: Length of a window in seconds to its burn rate; a rate of 1 spends the budget in exactly one window.
        action: "page", "ticket" or "", by `BURN_RULES`.
    """

    target: float
    attained: float
    budget_s: float
    spent_s: float
    burn: Mapping[float, float]
    action: str

    @property
    def left(self) -> float:
        """Remaining share of the budget, at most 1; negative if it is overspent."""
        return 1.0 - self.spent_s / self.budget_s


def error_budget(
    intervals: Iterable[Interval],
    now_s: float,
    *,
    target: float = DEFAULT_TARGET,
    window_s: float = WINDOW_S,
    since_s: float | None = None,
) -> ErrorBudget:
    """The error budget at `now_s`.

    Args:
        intervals: Disjoint bad intervals.
        now_s: The present.
        target: Share of time that must be good, below 1.
        window_s: Length of the window, seconds.
        since_s: First instant at which the deployment is known, Unix seconds.
    """  # fmt: skip
    bad = list(intervals)
    start = max(now_s - window_s, since_s if since_s is not None else -np.inf)
    span = max(1.0, now_s - start)
    spent = overlap_s(bad, start, now_s)
    burn: dict[float, float] = {}
    for windows in BURN_RULES:
        for width in windows[:2]:
            burn[width] = overlap_s(bad, now_s - width, now_s) / width / (1.0 - target)
    action = next((what for long, short, rate, what in BURN_RULES if burn[long] > rate and burn[short] > rate), "")
    return ErrorBudget(
        target=target,
        attained=1.0 - spent / span,
        budget_s=(1.0 - target) * window_s,
        spent_s=spent,
        burn=dict(sorted(burn.items())),
        action=action,
    )

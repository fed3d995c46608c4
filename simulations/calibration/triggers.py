"""Which deployments follow which: runs that come right after others complete, one for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from prefect_intelligent.policy.census import Array

LAG_S: Final = 30.0
"""An event-triggered run is scheduled within so many seconds of the completion that triggers it."""

_EARLY_S: Final = 1.0
_COVERED: Final = 0.9
_ADDS: Final = 0.1
_LEAST: Final = 5


def fit_triggers(
    came_s: Mapping[str, Array], completed_s: Mapping[str, Array], span_s: float
) -> dict[str, tuple[str, ...]]:
    """The upstreams of each deployment whose runs were triggered.

    A deployment follows others if nine of ten of its runs come within `LAG_S` of a completion of one of them, that is
    much more than chance would give, and there are about as many completions as runs. Those that add most are taken
    first, so that a run which waits for the later of two has both.

    Args:
        came_s: Per deployment that has no schedule: when its runs were scheduled, ascending.
        completed_s: Per deployment: when its runs completed, ascending.
        span_s: Seconds looked at.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(came_s):
        mine = came_s[name]
        if len(mine) < _LEAST:
            continue
        hits = {
            other: _after(mine, theirs)
            for other, theirs in completed_s.items()
            if other != name and 0.8 <= len(mine) / max(1, len(theirs)) <= 1.1 and not _follows(found, other, name)
        }
        chosen = _cover(hits, {other: _chance(completed_s[other], span_s) for other in hits})
        if chosen:
            found[name] = chosen
    return found


def _after(mine: Array, theirs: Array) -> Array:
    """Which runs come right after a completion, as 0 and 1."""
    last = np.searchsorted(theirs, mine + _EARLY_S, side="right") - 1
    lag = np.where(last >= 0, mine - theirs[np.maximum(last, 0)], np.inf)
    out: Array = (lag <= LAG_S).astype(float)
    return out


def _chance(theirs: Array, span_s: float) -> float:
    """Share of runs at random that would come right after a completion."""
    if len(theirs) == 0:
        return 0.0
    covered = np.minimum(np.diff(np.append(theirs, theirs[-1] + LAG_S)), LAG_S).sum()
    return float(min(1.0, covered / max(span_s, 1.0)))


def _cover(hits: Mapping[str, Array], chance: Mapping[str, float]) -> tuple[str, ...]:
    """The deployments that together explain the runs, fewest first; empty if they do not."""
    chosen: list[str] = []
    covered = np.zeros(0)
    while len(chosen) < len(hits):
        rest = [other for other in hits if other not in chosen]
        best = max(rest, key=lambda other: float(np.mean(np.maximum(hits[other], covered if chosen else 0.0))))
        grown = np.maximum(hits[best], covered) if chosen else hits[best]
        before = float(np.mean(covered)) if chosen else 0.0
        left = 1.0 - before
        if float(np.mean(grown)) - before < max(_ADDS, 2.0 * chance[best] * left):
            break
        chosen.append(best)
        covered = grown
        if float(np.mean(covered)) >= 1.0 - _ADDS / 2:
            break
    return tuple(chosen) if chosen and float(np.mean(covered)) >= _COVERED else ()


def _follows(found: Mapping[str, tuple[str, ...]], name: str, other: str) -> bool:
    """Whether `name` comes after `other` already, directly or not."""
    return any(up == other or _follows(found, up, other) for up in found.get(name, ()))

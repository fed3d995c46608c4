"""Which deployments trigger which: runs that are scheduled right after others complete, one for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from prefect_intelligent.policy.census import Array

LAG_S: Final = 30.0
"""Most seconds from a completion to the scheduled time of the run that it triggers."""

_EARLY_S: Final = 1.0
_COVERED: Final = 0.9
_ADDS: Final = 0.1
_LEAST: Final = 5


def fit_triggers(
    came_s: Mapping[str, Array], completed_s: Mapping[str, Array], span_s: float
) -> dict[str, tuple[str, ...]]:
    """The upstreams of each deployment whose runs were triggered.

    A deployment has upstreams if nine of ten of its runs are scheduled within `LAG_S` of a completion of one of them,
    which is much more than by chance, and there are about as many completions as runs. Upstreams are chosen greedily by
    the number of runs they explain, so a run that waits for the later of two completions has both as upstreams.

    Args:
        came_s: Per deployment that has no schedule: when its runs were scheduled, ascending.
        completed_s: Per deployment: when its runs completed, ascending.
        span_s: Length of the observed time.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(came_s):
        scheduled = came_s[name]
        if len(scheduled) < _LEAST:
            continue
        hits = {
            other: _after(scheduled, completed)
            for other, completed in completed_s.items()
            if other != name
            and 0.8 <= len(scheduled) / max(1, len(completed)) <= 1.1
            and not _is_downstream(found, other, name)
        }
        chosen = _cover(hits, {other: _chance(completed_s[other], span_s) for other in hits})
        if chosen:
            found[name] = chosen
    return found


def _after(scheduled: Array, completed: Array) -> Array:
    """Which runs are scheduled right after a completion, as 0 and 1."""
    last = np.searchsorted(completed, scheduled + _EARLY_S, side="right") - 1
    lag = np.where(last >= 0, scheduled - completed[np.maximum(last, 0)], np.inf)
    out: Array = (lag <= LAG_S).astype(float)
    return out


def _chance(completed: Array, span_s: float) -> float:
    """Share of random instants that lie right after a completion."""
    if len(completed) == 0:
        return 0.0
    covered = np.minimum(np.diff(np.append(completed, completed[-1] + LAG_S)), LAG_S).sum()
    return float(min(1.0, covered / max(span_s, 1.0)))


def _cover(hits: Mapping[str, Array], chance: Mapping[str, float]) -> tuple[str, ...]:
    """The deployments that together explain the runs, chosen greedily; empty if they do not."""
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


def _is_downstream(found: Mapping[str, tuple[str, ...]], name: str, other: str) -> bool:
    """Whether `name` is already a direct or indirect downstream of `other`."""
    return any(up == other or _is_downstream(found, up, other) for up in found.get(name, ()))

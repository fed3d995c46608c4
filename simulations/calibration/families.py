"""Which deployments call which: children come while a parent runs, and it runs on until they are over."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.policy.census import Array

_INSIDE: Final = 0.95
_CHANCE: Final = math.log(1e-4)
_LEAST: Final = 5
_SLACK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A deployment that is called.

    Attributes:
        parent: The deployment that calls it.
        times: How many of its runs each run of the parent creates, about.
        parent_of: Number of the parent run of each of its runs, a row of the parent's table; -1 for none.
    """

    parent: str
    times: int
    parent_of: Array


def fit_families(runs: pd.DataFrame, scheduled: Collection[str], span_s: float) -> dict[str, Family]:
    """The deployments whose runs are created by runs of another one, which waits for them.

    Nearly all runs of such a deployment come while one of the parent is at work and end before it does, which is far
    more than chance, and nearly all runs of the parent have some. Of several parents the one is taken that is at work
    for the shortest time.

    Args:
        runs: Ended and unfinished runs, see `history.runs_frame`.
        scheduled: Deployments that come by a schedule of their own.
        span_s: Length of the observed time.
    """
    whole = runs[runs["started_s"].notna() & runs["ended_s"].notna()]
    tables = {
        str(name): group.sort_values("started_s", ignore_index=True) for name, group in whole.groupby("deployment")
    }
    found: dict[str, Family] = {}
    for child, own in tables.items():
        if child in scheduled or len(own) < _LEAST:
            continue
        options = []
        for parent, above in tables.items():
            if parent == child or len(above) < _LEAST or _is_ancestor(found, child, parent):
                continue
            covered = _covered_s(above) / max(span_s, 1.0)
            parent_of = _inside(own, above)
            certain = len(own) * math.log(max(min(covered, 1.0), 1e-9)) < _CHANCE
            if certain and np.mean(parent_of >= 0) >= _INSIDE and _share_with_children(parent_of, above) >= 0.8:
                options.append((covered, parent, parent_of))
        if options:
            _, parent, parent_of = min(options, key=lambda each: each[:2])
            calling = len(np.unique(parent_of[parent_of >= 0]))
            found[child] = Family(parent=parent, times=max(1, round(len(own) / calling)), parent_of=parent_of)
    return found


def own_work(name: str, runs: pd.DataFrame, families: Mapping[str, Family]) -> tuple[pd.DataFrame, float] | None:
    """The runs of a parent without the time for which they waited, and after which share of their work they call.

    Returns:
        Its ended runs by start, with their ends moved forward; None if it calls nobody.
    """
    children = {child: family for child, family in families.items() if family.parent == name}
    if not children:
        return None
    whole = runs[runs["started_s"].notna() & runs["ended_s"].notna()]
    own = whole[whole["deployment"] == name].sort_values("started_s", ignore_index=True)
    called, back = np.full(len(own), np.inf), np.full(len(own), -np.inf)
    for child, family in children.items():
        each = whole[whole["deployment"] == child].sort_values("started_s", ignore_index=True)
        known = family.parent_of >= 0
        rows = family.parent_of[known].astype(np.int64)
        np.minimum.at(called, rows, each["scheduled_s"].to_numpy(float)[known])
        np.maximum.at(back, rows, each["ended_s"].to_numpy(float)[known])
    waited = np.where(np.isfinite(called), np.maximum(back - called, 0.0), 0.0)
    work = np.maximum(own["ended_s"].to_numpy(float) - own["started_s"].to_numpy(float) - waited, 0.1)
    share = np.clip((called - own["started_s"].to_numpy(float)) / work, 0.0, 1.0)[np.isfinite(called)]
    return own.assign(ended_s=own["started_s"] + work), round(float(np.median(share)), 3)


def _inside(own: pd.DataFrame, above: pd.DataFrame) -> Array:
    """The row of `above` in which each run lies, the one that began last; -1 for none."""
    came, over = own["scheduled_s"].to_numpy(float), own["ended_s"].to_numpy(float)
    began, ended = above["started_s"].to_numpy(float), above["ended_s"].to_numpy(float)
    out = np.full(len(own), -1)
    for number, (at_s, end_s) in enumerate(zip(came, over, strict=True)):
        last = int(np.searchsorted(began, at_s + _SLACK_S, side="right"))
        fits = np.flatnonzero(ended[:last] + _SLACK_S >= end_s)
        if len(fits):
            out[number] = fits[-1]
    return out


def _covered_s(above: pd.DataFrame) -> float:
    """Seconds in which at least one of the runs is at work."""
    ends = np.maximum.accumulate(above["ended_s"].to_numpy(float))
    began = above["started_s"].to_numpy(float)
    return float(np.maximum(ends - np.maximum(began, np.concatenate([[-np.inf], ends[:-1]])), 0.0).sum())


def _share_with_children(parent_of: Array, above: pd.DataFrame) -> float:
    """Share of the parent's completed runs that have children."""
    completed = np.flatnonzero((above["state"] == "COMPLETED").to_numpy())
    return float(np.isin(completed, parent_of).mean()) if len(completed) else 0.0


def _is_ancestor(found: Mapping[str, Family], name: str, other: str) -> bool:
    """Whether `name` is already a parent of `other`, or of one of its parents."""
    while other in found:
        other = found[other].parent
        if other == name:
            return True
    return False

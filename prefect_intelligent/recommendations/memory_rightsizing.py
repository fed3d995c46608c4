"""Rightsizing: deployments that request more memory than their runs use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.history.runs_frame import duration_s, settled
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation

MIN_RUNS: Final = 20
HEADROOM: Final = 1.25
"""Recommended memory as a multiple of the largest peak."""

_STEP_MB: Final = 256
_MOST_SHARE: Final = 0.75
_MEMORY: Final = ("memory", "mem_limit", "memory_limit", "memory_request")
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER: Final = {"k": -1, "": 0, "m": 0, "g": 1, "t": 2}


def memory_mb(variables: Mapping[str, object]) -> float | None:
    """Return the memory that job variables request, mebibytes; None if they request none.

    A bare number is mebibytes, as on ECS. The forms of Docker ("2g"), Kubernetes and Cloud Run ("512Mi", "2Gi") are
    supported, too.
    """
    for name in _MEMORY:
        if (found := _SIZE.fullmatch(str(variables.get(name, "")))) is not None:
            return float(found[1]) * 1024.0 ** _POWER[found[2].lower()]
    return None


def rightsize(
    runs: pd.DataFrame,
    peaks_mb: Mapping[str, tuple[float, int]],
    asked_mb: Mapping[str, float],
    gb_usd_per_hour: float,
    rng: np.random.Generator,
) -> list[Recommendation]:
    """Return recommendations for deployments that request much more memory than any of their runs has used.

    Args:
        runs: Table of `history.runs_frame`.
        peaks_mb: Largest peak of the runs (mebibytes) and number of measured runs, by deployment.
        asked_mb: Memory that the job variables request, mebibytes, by deployment.
        gb_usd_per_hour: Price of a gibibyte for an hour, US dollars.
        rng: Random generator of the bootstrap.
    """
    ended = runs[settled(runs)]
    deployment = ended["deployment"].astype(str)
    day = (ended["submitted_s"] // 86400.0).astype(np.int64)
    days = int(day.max() - day.min()) + 1 if len(ended) else 0
    found = []
    for name, (peak, measured) in peaks_mb.items():
        asked = asked_mb.get(name)
        enough = max(_STEP_MB, _STEP_MB * math.ceil(HEADROOM * peak / _STEP_MB))
        own = deployment == name
        if asked is None or measured < MIN_RUNS or enough > _MOST_SHARE * asked or not own.any():
            continue
        hours = duration_s(ended)[own].groupby(day[own] - day.min()).sum() / 3600.0
        saved = np.zeros(days)
        saved[hours.index.to_numpy()] = hours.to_numpy() * (asked - enough) / 1024.0 * gb_usd_per_hour
        change = ProposedChange(
            kind="memory",
            subject=name,
            title=f"Give {name} {enough} MiB of memory instead of {asked:.0f}",
            evidence=f"{measured} of its runs used at most {peak:.0f} MiB.",
            by_hand=f"set the job variable for the memory of {name} to {enough} MiB",
        )
        found.append(Recommendation.from_daily_savings(change, saved, rng))
    return sorted(found, key=lambda one: -one.saving_usd_per_day)

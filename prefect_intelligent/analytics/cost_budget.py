"""Cost of a deployment against its budget, or against its own past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.objective import busy_usd
from prefect_intelligent.history.runs_frame import duration_s, settled

_DAY_S: Final = 86400.0
_MIN_DAYS: Final = 3.0
"""Days of past that are needed as the budget of a deployment that has none."""
_MIN_RUNS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBudget:
    """Budget and cost of a deployment over the same days.

    Attributes:
        budget_usd: The budget.
        actual_usd: Cost of the slots that its runs held.
        runs: Number of these runs.
        agreed: Whether the budget was configured; else it is the cost of its past.
    """

    budget_usd: float
    actual_usd: float
    runs: int
    agreed: bool


def cost_budget(
    runs: pd.DataFrame, now_s: float, prices: Prices, budget_usd_per_day: float | None = None
) -> CostBudget | None:
    """Cost of the slots that the ended runs held, against a budget.

    Without a budget the newest quarter of the time that the runs span (at least a day) is compared with the days
    before.

    Args:
        runs: Runs of one deployment, as from `as_runs`.
        now_s: The present, Unix seconds.
        prices: Prices of capacity.
        budget_usd_per_day: The budget, US dollars a day.

    Returns:
        None if slots cost nothing or no run has ended; without a budget also below three days or five runs of past.
    """
    ended = runs[settled(runs)]
    if ended.empty or prices.slot_usd_per_hour <= 0:
        return None
    usd = np.array([busy_usd(s, prices.slot_usd_per_hour, prices.min_billing_s) for s in duration_s(ended).tolist()])
    days = max(0.0, now_s - float(ended["started_s"].min())) / _DAY_S
    if budget_usd_per_day is not None:
        return CostBudget(
            budget_usd=budget_usd_per_day * max(1.0, days), actual_usd=float(usd.sum()), runs=len(usd), agreed=True
        )
    recent_days = max(1.0, days / 4.0)
    before = ended["ended_s"].to_numpy() < now_s - recent_days * _DAY_S
    if days - recent_days < _MIN_DAYS or int(before.sum()) < _MIN_RUNS:
        return None
    past_usd = float(usd[before].sum()) / (days - recent_days) * recent_days
    return CostBudget(
        budget_usd=past_usd, actual_usd=float(usd[~before].sum()), runs=int((~before).sum()), agreed=False
    )

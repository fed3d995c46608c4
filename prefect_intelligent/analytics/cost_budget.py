"""What a deployment costs against what it may cost, or against what it used to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.objective import busy_usd
from prefect_intelligent.history.runs_frame import duration_s, settled

_DAY_S: Final = 86400.0
_USUAL_DAYS: Final = 3.0
"""Days that must lie behind before what a deployment used to cost stands for its budget."""
_LEAST_RUNS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBudget:
    """What a deployment may cost and what it has cost over the same days.

    Attributes:
        budget_usd: What it may cost.
        actual_usd: What its runs have cost.
        runs: How many runs that is.
        agreed: Whether somebody set the budget; else it is what the deployment used to cost.
    """

    budget_usd: float
    actual_usd: float
    runs: int
    agreed: bool


def cost_budget(
    runs: pd.DataFrame, now_s: float, prices: Prices, budget_usd_per_day: float | None = None
) -> CostBudget | None:
    """Slots that the ended runs held, in money, against a budget.

    Without a budget the newest quarter of the time the runs span (a day at least) is held against what came before;
    None if that is less than three days or five runs, or if slots cost nothing.
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
    if days - recent_days < _USUAL_DAYS or int(before.sum()) < _LEAST_RUNS:
        return None
    usual_usd = float(usd[before].sum()) / (days - recent_days) * recent_days
    return CostBudget(
        budget_usd=usual_usd, actual_usd=float(usd[~before].sum()), runs=int((~before).sum()), agreed=False
    )

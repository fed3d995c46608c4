"""The formulas of `domain.objective` as compiled functions."""

from __future__ import annotations

from prefect_intelligent.domain import objective
from prefect_intelligent.twin.engine.jit import compiled

busy_usd = compiled(objective.busy_usd)
idle_usd = compiled(objective.idle_usd)
lateness_usd = compiled(objective.lateness_usd)

"""When the live runs of a pool start and end, by the twin."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.replay.eta import Eta, predict_run_times
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.regime import pool_regime
from prefect_intelligent.wiring.replay import given_limit, observe_pool, worked_model
from prefect_intelligent.wiring.steering import open_policy


def predict_runs(
    settings: Settings, pool: str, *, queue: str | None = None, futures: int = 64, seed: int = 0
) -> tuple[Snapshot, str, tuple[Eta, ...]]:
    """The pool as it is, the name of the policy in charge, and when the live runs will start and end under it.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        queue: A work queue that must exist; None is none.
        futures: Number of futures sampled.
        seed: Of the futures.

    Raises:
        UnknownNameError: There is no such pool or queue.
        OrchestratorError: Prefect cannot be asked.
    """
    snapshot = observe_pool(settings, pool)
    if queue is not None:
        snapshot.queue(queue)
    model = worked_model(settings, snapshot)
    deciding = open_policy(settings, settings.policy)
    regime = pool_regime(settings, pool, model.queues_by_name, given_limit(settings, snapshot))
    rng = np.random.default_rng(seed)
    return snapshot, deciding.name, predict_run_times(snapshot, model, deciding, regime, rng, futures=futures)

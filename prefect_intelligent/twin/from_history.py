"""A world of what has happened: recorded runs with their true durations and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES, CRASHES, FAILS, World
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, Runs

_OUTCOME_SOURCES: Final = {"COMPLETED": COMPLETES, "FAILED": FAILS, "CRASHED": CRASHES}
_SHORTEST_S: Final = 0.01
"""Seconds of work of a run that took no time."""


def world_from_runs(
    runs: pd.DataFrame,
    pool: PoolSpec,
    estimates: Sequence[Estimate],
    *,
    resources: Sequence[ResourceSpec] = (),
    resources_of: dict[str, tuple[str, ...]] | None = None,
    seed: int = 0,
) -> World:
    """One world in which exactly the recorded runs come, work as long and end as they did.

    Args:
        runs: Ended runs with `deployment`, `queue`, `state`, `scheduled_s`, `submitted_s`, `started_s`, `ended_s`,
            `due_s`, `late_usd_per_hour` and `failure_usd`; the last three may be NaN.
        pool: The pool they are to run in; every queue of the record must be one of its queues.
        estimates: What was predicted for each run when it was submitted, work without start-up.
        resources: Shared resources.
        resources_of: Which of them the runs of a deployment use, by name.
        seed: For poll periods and start-up times, which alone are drawn.

    Raises:
        InvalidInputError: There is no run, or one lies in a queue that the pool lacks.
    """
    if runs.empty:
        raise InvalidInputError(
            "history", "0 runs", "there is no ended run to replay; run `prefect-intelligent sync` first"
        )
    pairs = runs[["deployment", "queue"]].astype(str)
    number, names = pd.factorize(pd.MultiIndex.from_frame(pairs), sort=True)
    priced = runs[["late_usd_per_hour", "failure_usd"]].astype(float).fillna(0.0).groupby(number).median()
    deployments = [
        DeploymentSpec(
            name=f"{deployment} in {queue}",
            queue=queue,
            late_usd_per_hour=float(priced["late_usd_per_hour"][place]),
            failure_usd=float(priced["failure_usd"][place]),
            resources=(resources_of or {}).get(deployment, ()),
        )
        for place, (deployment, queue) in enumerate(names)
    ]
    scheduled = runs["scheduled_s"].fillna(runs["submitted_s"]).to_numpy(float)
    work = np.maximum((runs["ended_s"] - runs["started_s"]).to_numpy(float), _SHORTEST_S)
    columns = Runs(
        deployment=number.astype(np.int64),
        scheduled_s=scheduled,
        known_s=np.minimum(runs["submitted_s"].to_numpy(float), scheduled),
        work_s=work,
        p50_s=np.array([estimate.p50_s for estimate in estimates]) + pool.startup_s,
        spread=np.array([estimate.sigma for estimate in estimates]),
        due_s=runs["due_s"].fillna(np.inf).to_numpy(float),
        due_within_s=np.full(len(runs), np.inf),
        outcome_source=runs["state"].astype(str).map(_OUTCOME_SOURCES).fillna(COMPLETES).to_numpy().astype(np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    return build_world([pool], deployments, columns, resources=resources, seed=seed, start_s=float(scheduled.min()))

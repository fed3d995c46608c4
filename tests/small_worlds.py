"""Worlds of the twin that are small enough to do by hand. Times in seconds from 0."""

import math

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import Runs

AT_ONCE = {"poll_s": 0.0, "startup_s": 0.0, "prefetch_s": 0.0}
ONE_QUEUE = (QueueSetting(name="q", priority=1),)


def runs_of(
    rows: list[dict], edges: list[tuple[int, int]] | None = None, calls: list[tuple[int, int]] | None = None
) -> Runs:
    """Runs from rows with any of `at`, `work`, `p50`, `due`, `within`, `known`, `deployment`, `outcome_source`."""

    def column(name: str, default: float) -> np.ndarray:
        return np.array([row.get(name, default) for row in rows], dtype=float)

    at_s = column("at", 0.0)
    return Runs(
        deployment=np.array([row.get("deployment", 0) for row in rows]),
        scheduled_s=at_s,
        known_s=column("known", math.nan) if "known" in rows[0] else at_s,
        work_s=column("work", 10.0),
        p50_s=np.array([row.get("p50", row.get("work", 10.0)) for row in rows], dtype=float),
        spread=np.zeros(len(rows)),
        due_s=column("due", math.inf),
        due_within_s=column("within", math.inf),
        outcome_source=np.array([row.get("outcome_source", 0) for row in rows], dtype=np.int8),
        edges=np.array(edges or np.zeros((0, 2)), dtype=np.int64).reshape(-1, 2),
        calls=np.array(calls or np.zeros((0, 2)), dtype=np.int64).reshape(-1, 2),
    )


def run(world: World) -> Twin:
    """The world after its last run, with its log."""
    twin = Twin(world, log=True)
    twin.finish()
    return twin


def ends(twin: Twin) -> list[float]:
    """When each run was over."""
    return twin.state.runs["finished_s"][0].tolist()


def claims(twin: Twin) -> list[float]:
    """When each run first took a slot."""
    return twin.state.runs["first_claimed_s"][0].tolist()

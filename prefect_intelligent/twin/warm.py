"""Compile the twin into its cache on disk: `python -m prefect_intelligent.twin.warm`, after an installation."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.policy import GuardSettings, GuardState, parse_policy, permit
from prefect_intelligent.policy.actions import apply_action, neutral
from prefect_intelligent.policy.encoding import encode
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.futures import redraw_unknowns
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs


def warm() -> None:
    """Call every compiled function, with a world of one run."""
    one_run = np.ones(1)
    runs = Runs(
        deployment=np.zeros(1, dtype=np.int64),
        scheduled_s=one_run,
        known_s=one_run,
        work_s=one_run,
        p50_s=one_run,
        spread=one_run,
        due_s=one_run,
        due_within_s=one_run,
        outcome_source=np.zeros(1, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    pool = PoolSpec(queues=(QueueSetting(name="default", priority=1),), limit=1)
    twin = Twin(build_world([pool], [DeploymentSpec(name="flow/warm", queue="default")], runs))
    census, rule = twin.census(), parse_policy("atc+lookahead+share")
    wanted = apply_action(rule.propose(census), census, neutral(census))
    encode(census, wanted)
    permit(wanted, census, GuardState.start(census), GuardSettings(), now_s=0.0)
    redraw_unknowns(ClosedLoop(twin, Regime()), np.random.default_rng(0))
    twin.finish()


if __name__ == "__main__":
    warm()

"""Compile the twin into its cache: `python -m prefect_intelligent.twin.warm`, after an installation."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.policy import GuardSettings, GuardState, parse_policy, permit
from prefect_intelligent.policy.actions import apply_action, neutral
from prefect_intelligent.policy.encoding import encode
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs, build_world


def warm() -> None:
    """Run a world of one run through every compiled function."""
    one = np.ones(1)
    runs = Runs(
        deployment=np.zeros(1, dtype=np.int64),
        scheduled_s=one,
        known_s=one,
        work_s=one,
        p50_s=one,
        spread=one,
        due_s=one,
        due_within_s=one,
        fate=np.zeros(1, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    pool = PoolSpec(queues=(QueueSetting(name="default", priority=1),), limit=1)
    twin = Twin(build_world([pool], [DeploymentSpec(name="flow/warm", queue="default")], runs))
    census, rule = twin.census(), parse_policy("atc+lookahead+share")
    wanted = apply_action(rule.propose(census), census, neutral(census))
    encode(census, wanted)
    permit(wanted, census, GuardState.start(census), GuardSettings(), now_s=0.0)
    twin.finish()


if __name__ == "__main__":
    warm()

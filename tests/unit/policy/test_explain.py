"""Explanations name what was done and the features that moved it."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.policy import Census, P, Q, RulePolicy
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES
from prefect_intelligent.policy.explain import explain
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.network import Network, weight_shapes


def test_the_feature_that_alone_moves_a_correction_is_named_first() -> None:
    weights = {name: np.zeros(shape, np.float32) for name, shape in weight_shapes(4).items()}
    for kind in ("queues", "pool"):
        weights[f"{kind}.std"][:] = 1
    hour = POOL_FEATURES.index("dial")
    weights["trunk.weight"][2 * 4 + hour, 0] = 1.0  # trunk unit 0 is the dial
    weights["pool_head.weight"][0, 6] = 0.5  # and it speaks for twice the slots
    late = QUEUE_FEATURES.index("late")
    weights["encoder_1.weight"][late, 1] = 1.0
    weights["encoder_2.weight"][1, 1] = 1.0
    weights["queue_1.weight"][1, 1] = 1.0
    weights["queue_head.weight"][1, 2] = 1.0  # queues with late runs to the front
    policy = LearnedPolicy(name="p", base=RulePolicy(priority="edf"), network=Network(weights), margin=0.1)
    table, pool = np.zeros((2, len(Q))), np.zeros(len(P))
    table[:, Q.PRESENT], table[:, Q.LIMIT] = 1, np.inf
    table[1, Q.LATE] = 5
    pool[[P.LIMIT, P.LATENESS_WEIGHT]] = 4, np.e
    found = explain(policy, Census(table, pool))
    assert [(c.queue, c.what) for c in found] == [(None, "pool limit x 2"), (1, "served in front of the others")]
    assert found[0].because[0][0] == "pool's dial"
    assert np.isclose(found[0].because[0][1], 0.5)
    assert found[1].because[0][0] == "queue's late"
    assert "should save" in found[0].sentence()

"""What holds for workers that are told apart, whatever their limits and queues."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, WorkerSpec
from tests.small_worlds import AT_ONCE, runs_of

NAMES = ("a", "b", "c")
workers = st.lists(st.tuples(st.integers(1, 3), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(workers=workers, limit=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_workers_keep_their_limits_and_queues_and_let_nothing_wait_that_one_of_them_could_take(
    workers: list[tuple[int, set[str]]], limit: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    specs = tuple(
        WorkerSpec(name=str(number), limit=most, queues=tuple(sorted(queues)))
        for number, (most, queues) in enumerate(workers)
    )
    queues = tuple(QueueSetting(name=name, priority=priority) for priority, name in enumerate(NAMES, start=1))
    rows = [
        {"at": float(at), "work": float(work), "deployment": int(deployment)}
        for at, work, deployment in zip(
            np.sort(rng.uniform(0, 100, 40)), rng.exponential(15, 40), rng.integers(0, 3, 40), strict=True
        )
    ]
    pool = PoolSpec(queues=queues, workers=specs, limit=limit, owned=False, **AT_ONCE)
    twin = Twin(build_world([pool], [DeploymentSpec(name=name, queue=name) for name in NAMES], runs_of(rows)))
    twin.advance(100_000.0)
    runs = twin.state.runs[0]
    queue = np.array([NAMES[row["deployment"]] for row in rows])
    scheduled, claimed = runs["scheduled_s"], runs["first_claimed_s"]
    ended = np.where(np.isnan(claimed), math.nan, runs["finished_s"])
    served = [set(NAMES) if not each.queues else set(each.queues) for each in specs]

    for instant in np.unique(np.concatenate([scheduled, claimed[~np.isnan(claimed)], ended[~np.isnan(ended)]])):
        active = (claimed <= instant) & (instant < ended)  # false where a run never had a slot
        assert active.sum() <= limit
        held = [int(np.sum(active & (runs["worker"] == number))) for number in range(len(specs))]
        assert all(count <= most for count, (most, _) in zip(held, workers, strict=True))
        waiting = (scheduled <= instant) & ~(claimed <= instant)
        for name in set(queue[waiting]):
            able = [name in served[n] and held[n] < workers[n][0] for n in range(len(specs))]
            assert active.sum() == limit or not any(able), f"a run of {name} waits at {instant}"
    for number in np.flatnonzero(~np.isnan(claimed)):
        assert queue[number] in served[runs["worker"][number]]
    for name in set(queue) - set().union(*served):
        assert np.all(np.isnan(claimed[queue == name]))

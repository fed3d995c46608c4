"""What people set is theirs, whatever happens: held while it counts, and what going back returns to."""

from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, Run, RunPhase, assign_priorities
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.policy import GuardSettings, Proposal, Q, parse_policy
from prefect_intelligent.steering.controller_state import load_state
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.steering.manual_overrides import values_of
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.testing.history import switched_on
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator

QUEUES = ("a", "b", "c", "default")


class Restless:
    """Wants something else every time."""

    name = "restless"

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def propose(self, census):
        count = census[Q.LIMIT].shape[-1]
        limits = self.rng.integers(1, 9, count).astype(float)
        return Proposal(self.rng.permutation(count) * 1.0, limits, np.asarray(float(self.rng.integers(1, 9))))


def made_pool():
    pool = InMemoryOrchestrator(
        [QueueSetting(name=name, priority=10 * place + 10) for place, name in enumerate(QUEUES)],
        pool=PoolSetting(name="pool", limit=4),
    )
    now_s = pool.clock.now_s()
    for name in QUEUES:
        estimate = Estimate(p50_s=9e9, p90_s=9e9)
        pool.submit(
            Run(id=name, deployment="f/d", queue=name, phase=RunPhase.WAITING, scheduled_s=now_s, estimate=estimate)
        )
    return pool


steps = st.lists(
    st.one_of(
        st.just(("steer",)),
        st.just(("steer and fail",)),
        st.tuples(st.just("limit"), st.sampled_from(QUEUES), st.none() | st.integers(10, 20)),
        st.tuples(st.just("priority"), st.sampled_from(QUEUES), st.integers(100, 200)),
        st.tuples(st.just("pool"), st.integers(10, 20)),
        st.tuples(st.just("jump"), st.sampled_from((-90_000.0, -5.0, 5.0, 90_000.0))),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, seed=st.integers(0, 2**16))
@example(steps=[("steer",), ("pool", 11), ("jump", 90_000.0), ("pool", 10)], seed=0)  # set anew as a hold lapses
@example(  # set, lapsed, set to something else and back
    steps=[
        *[("steer",), ("steer",), ("priority", "a", 101), ("jump", 90_000.0), ("steer",)],
        *[("priority", "a", 100), ("priority", "a", 101)],
    ],
    seed=0,
)
def test_going_back_returns_to_what_people_set_last(steps, seed):
    pool, history = made_pool(), switched_on("pool")
    guard = GuardSettings(interval_s=0.0, hysteresis=0.0)
    config = ControllerConfig(policy=Restless(seed), rule=parse_policy("fifo"), guard=guard)
    people = values_of(*pool.settings())  # what people have set last, as they see it
    for step in [*steps, ("steer",)]:
        match step:
            case ("steer",):
                reconcile(pool, history, pool.clock, config)
            case ("steer and fail",):
                pool.faults.fail(OrchestratorUnavailableError("503"), on="write")
                reconcile(pool, history, pool.clock, config)
                pool.faults._errors.clear()
            case ("limit", queue, limit):
                if values_of(*pool.settings())[queue, "limit"] != limit:
                    pool.edit(queue, lambda held, limit=limit: replace(held, limit=limit))
                    people[queue, "limit"] = limit
                    reconcile(pool, history, pool.clock, config)
            case ("priority", queue, number):
                if values_of(*pool.settings())[queue, "priority"] != number:
                    pool.edit(queue, lambda held, number=number: replace(held, priority=number))
                    people[queue, "priority"] = number
                    reconcile(pool, history, pool.clock, config)
            case ("pool", limit):
                if values_of(*pool.settings())[None, "limit"] != limit:
                    pool.edit_pool(lambda held, limit=limit: replace(held, limit=limit))
                    people[None, "limit"] = limit
                    reconcile(pool, history, pool.clock, config)
            case ("jump", seconds):
                pool.clock.jump(seconds)
        held = load_state(history, "pool").known.overrides
        found = values_of(*pool.settings())
        assert all(found[key] == hold.value == people[key] for key, hold in held.items())
    restore(pool, history, pool.clock, by="test")
    assert values_of(*pool.settings()) == people
    set_switch(history, "pool", "on", 0.0, "test")
    reconcile(pool, history, pool.clock, replace(config, policy=parse_policy("fifo")))
    assert not load_state(history, "pool").known.overrides


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True),
    data=st.data(),
)
def test_fixed_queues_keep_their_number_and_the_others_come_in_order(numbers, data):
    names = [f"q{i}" for i in range(len(numbers))]
    current = dict(zip(names, numbers, strict=True))
    order = data.draw(st.permutations(names))
    fixed = data.draw(st.sets(st.sampled_from(names)))
    after = current | assign_priorities(current, order, fixed)
    assert all(after[name] == current[name] for name in fixed)
    others = [after[name] for name in order if name not in fixed]
    assert others == sorted(others)
    assert len(set(after.values())) == len(after)
    if any(name not in fixed for name in order):
        roomy = {name: 1000 * number for name, number in current.items()}
        ascending = sorted(fixed, key=order.index)
        if [roomy[name] for name in ascending] == sorted(roomy[name] for name in ascending):
            placed = roomy | assign_priorities(roomy, order, fixed)
            assert sorted(names, key=placed.__getitem__) == list(order), "there was room around the fixed ones"

"""Whatever order is wanted, the numbers written give it, and writing twice writes nothing."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.domain import Plan, PoolSetting, QueueSetting, assign_priorities, diff
from prefect_intelligent.domain.queues import MAX_PRIORITY

numbers = st.one_of(st.integers(1, 12), st.integers(1, MAX_PRIORITY), st.integers(MAX_PRIORITY - 12, MAX_PRIORITY))
limits = st.one_of(st.none(), st.integers(0, 50))


@st.composite
def pools(draw):
    names = [f"q{i}" for i in range(draw(st.integers(1, 10)))]
    queues = tuple(QueueSetting(name=n, priority=draw(numbers), limit=draw(limits)) for n in names)
    ordered = draw(st.permutations(names))
    chosen = ordered[: draw(st.integers(0, len(names)))]
    plan = Plan(
        order=tuple(chosen),
        limits={n: draw(limits) for n in chosen},
        pool_limit=draw(limits),
        sets_pool_limit=draw(st.booleans()),
    )
    return PoolSetting(name="pool", limit=draw(limits)), queues, plan


def applied(pool, queues, changes):
    held = {q.name: q for q in queues}
    for change in changes:
        if change.queue is None:
            assert pool.limit == change.before
            pool = PoolSetting(name=pool.name, limit=change.after)
        else:
            old = held[change.queue]
            assert getattr(old, change.field) == change.before
            values = {"priority": old.priority, "limit": old.limit} | {change.field: change.after}
            held[change.queue] = QueueSetting(name=old.name, **values)
    return pool, tuple(held.values())


@given(pools())
def test_applying_the_difference_reaches_the_plan_and_then_nothing_is_left(case):
    pool, queues, plan = case
    new_pool, new_queues = applied(pool, queues, diff(pool, queues, plan))
    held = {q.name: q for q in new_queues}
    written = [held[name].priority for name in plan.order]
    assert written == sorted(set(written))
    assert all(held[name].limit == limit for name, limit in plan.limits.items())
    assert new_pool.limit == (plan.pool_limit if plan.sets_pool_limit else pool.limit)
    assert diff(new_pool, new_queues, plan) == ()


@given(pools())
def test_queues_that_the_plan_does_not_name_are_left_alone(case):
    pool, queues, plan = case
    named = set(plan.order)
    assert all(c.queue is None or c.queue in named for c in diff(pool, queues, plan))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.data())
def test_no_fewer_queues_could_have_been_moved(values, data):
    current = {f"q{i}": value for i, value in enumerate(values)}
    order = data.draw(st.permutations(list(current)))
    moved = assign_priorities(current, order)
    assert len(moved) == next(n for n in range(len(order) + 1) if can_be_ordered_by_moving(n, current, order))


def can_be_ordered_by_moving(count, current, order):
    """Brute force: some set of `count` queues can be given numbers so that all are strictly in order."""
    for moving in combinations(order, count):
        low = 0
        for name in order:
            if name in moving:
                low += 1
            elif current[name] > low:
                low = current[name]
            else:
                break
        else:
            return True
    return False

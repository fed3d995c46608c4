"""From an order of queues to the numbers Prefect holds."""

import pytest

from prefect_intelligent.domain import Change, Plan, PoolSetting, QueueSetting, assign_priorities, diff
from prefect_intelligent.errors import InvalidInputError

POOL = PoolSetting(name="pool", limit=4)


def queue(name, priority, limit=None):
    return QueueSetting(name=name, priority=priority, limit=limit)


def test_moving_the_last_queue_to_the_front_moves_only_that_queue():
    assert assign_priorities({"a": 10, "b": 20, "c": 30}, ["c", "a", "b"]) == {"c": 5}


def test_an_order_that_already_holds_moves_nothing():
    assert assign_priorities({"a": 1, "b": 2, "c": 7}, ["a", "b", "c"]) == {}


def test_equal_priorities_are_told_apart():
    moved = assign_priorities({"a": 1, "b": 1}, ["a", "b"])
    numbers = {"a": 1, "b": 1} | moved
    assert numbers["a"] < numbers["b"]
    assert len(moved) == 1


def test_without_room_at_the_top_more_queues_move():
    assert assign_priorities({"a": 1, "b": 2, "c": 3}, ["b", "a", "c"]) == {"b": 1, "a": 2}
    assert assign_priorities({"a": 1, "b": 2, "c": 3}, ["c", "a", "b"]) == {"a": 13, "b": 23}


def test_numbers_in_the_way_make_all_be_renumbered_sparsely():
    assert assign_priorities({"a": 2, "b": 4, "other": 1}, ["b", "a"]) == {"b": 10, "a": 20}


def test_numbers_of_queues_outside_the_order_are_not_reused():
    moved = assign_priorities({"a": 1, "b": 2, "other": 10}, ["b", "a"])
    numbers = {"a": 1, "b": 2} | moved
    assert numbers["b"] < numbers["a"]
    assert 10 not in moved.values()


def test_promotions_come_first_shrinking_limits_before_growing_ones():
    queues = (queue("a", 10, 2), queue("b", 20, 5), queue("c", 30))
    plan = Plan(order=("c", "a", "b"), limits={"a": 6, "b": 1, "c": None}, pool_limit=8, sets_pool_limit=True)
    assert diff(POOL, queues, plan) == (
        Change(queue="b", field="limit", before=5, after=1),
        Change(queue="c", field="priority", before=30, after=5),
        Change(queue="a", field="limit", before=2, after=6),
        Change(queue=None, field="limit", before=4, after=8),
    )


def test_unlimited_is_a_value_and_absent_is_another():
    queues = (queue("a", 1, 3), queue("b", 2, 3))
    plan = Plan(order=("a", "b"), limits={"a": None})
    assert diff(POOL, queues, plan) == (Change(queue="a", field="limit", before=3, after=None),)


def test_a_plan_that_leaves_the_pool_alone_does_not_make_it_unlimited():
    assert diff(POOL, (queue("a", 1),), Plan(order=("a",))) == ()


def test_a_queue_that_has_gone_is_skipped():
    assert diff(POOL, (queue("a", 1),), Plan(order=("gone", "a"), limits={"gone": 3})) == ()


@pytest.mark.parametrize(("priority", "limit"), [(0, None), (2**31, None), (1, -1)])
def test_a_setting_that_prefect_would_refuse_cannot_be_made(priority, limit):
    with pytest.raises(InvalidInputError, match="queue 'a'"):
        queue("a", priority, limit)

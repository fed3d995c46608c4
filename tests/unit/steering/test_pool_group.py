"""Loops of several pools: who joins and leaves, and what the failure of one does to the others."""

import threading
from collections import Counter

import pytest

from prefect_intelligent.steering.pool_group import PoolGroup

PATIENCE_S = 120.0


class Loops:
    """Loops that run until they are stopped, and what is known of them."""

    def __init__(self):
        self.begun, self.ended, self.errors = Counter(), Counter(), []
        self.changed = threading.Condition()
        self.broken: dict[str, int] = {}
        self.hung: dict[str, threading.Event] = {}

    def run(self, pool, stopped):
        self.count(self.begun, pool)
        if self.broken.get(pool, 0) > 0:
            self.broken[pool] -= 1
            raise ZeroDivisionError(pool)
        if pool in self.hung:
            self.hung[pool].wait()
        while not stopped():
            threading.Event().wait(0.01)
        self.count(self.ended, pool)

    def fail(self, pool, error):
        with self.changed:
            self.errors.append((pool, type(error)))
            self.changed.notify_all()

    def count(self, what, pool):
        with self.changed:
            what[pool] += 1
            self.changed.notify_all()

    def wait_for(self, holds):
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE_S)


@pytest.fixture
def loops():
    return Loops()


@pytest.fixture
def group(loops):
    made = PoolGroup(loops.run, loops.fail, longest_pause_s=0.01)
    yield made
    for hung in loops.hung.values():
        hung.set()
    assert made.stop(PATIENCE_S)


def test_pools_join_and_leave(loops, group):
    assert group.follow(["b", "a"]) == (("a", "b"), ())
    loops.wait_for(lambda: loops.begun["a"] == 1 and loops.begun["b"] == 1)
    assert group.follow(["b", "c"]) == (("c",), ("a",))
    assert group.pools == ("b", "c")
    loops.wait_for(lambda: loops.ended["a"] == 1 and loops.begun["c"] == 1)
    assert loops.ended["b"] == 0
    assert group.follow(["b", "c"]) == ((), ())


def test_a_loop_that_breaks_is_started_again_and_the_others_do_not_notice(loops, group):
    loops.broken["a"] = 3
    group.follow(["a", "b"])
    loops.wait_for(lambda: loops.begun["a"] == 4 and loops.begun["b"] == 1)
    assert loops.errors == [("a", ZeroDivisionError)] * 3
    assert group.pools == ("a", "b")


def test_a_pool_that_hangs_keeps_nobody_from_joining_and_does_not_run_twice(loops, group):
    loops.hung["a"] = threading.Event()
    group.follow(["a"])
    loops.wait_for(lambda: loops.begun["a"] == 1)
    assert group.follow(["b"]) == (("b",), ("a",))
    assert group.follow(["a", "b"]) == ((), ())  # its old loop has not ended
    assert not group.stop(0.05)
    loops.hung["a"].set()
    loops.wait_for(lambda: loops.ended["a"] == 1)
    assert group.wait(PATIENCE_S)
    assert loops.begun["a"] == 1


def test_a_pool_that_comes_back_is_steered_again(loops, group):
    group.follow(["a"])
    loops.wait_for(lambda: loops.begun["a"] == 1)
    group.follow([])
    loops.wait_for(lambda: loops.ended["a"] == 1)
    assert group.wait(PATIENCE_S)
    assert group.follow(["a"]) == (("a",), ())
    loops.wait_for(lambda: loops.begun["a"] == 2)


def test_loops_that_end_by_themselves_are_waited_for():
    ended = []
    group = PoolGroup(lambda pool, _: ended.append(pool), lambda *_: None)
    group.follow(["a", "b"])
    assert group.wait(PATIENCE_S)
    assert sorted(ended) == ["a", "b"]


def test_a_pool_that_left_before_its_first_turn_has_none(loops):
    group = PoolGroup(loops.run, loops.fail, spread_s=10 * PATIENCE_S)
    group.follow(["a", "b"])
    loops.wait_for(lambda: loops.begun["a"] == 1)
    group.follow(["a"])
    assert group.stop(PATIENCE_S)
    assert loops.begun["b"] == 0

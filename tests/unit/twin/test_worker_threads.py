"""Threads that share a batch: the same result as alone, every world once, errors reach the caller, none outlives it."""

import gc
import threading
import time

import numpy as np
import pytest

from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from prefect_intelligent.twin.engine.threads import DONE, TAKEN, WorkerThreads
from simulations.envs.batch import Batch, BatchSettings
from simulations.family import Family

LOCK = threading.Lock()


def test_threads_change_nothing_but_the_time():
    def play(threads):
        settings = BatchSettings(scenario=Family(hours=4.0), deck=8, reward="cost", threads=threads)
        batch = Batch(16, settings, np.random.default_rng(0))
        row = [NEUTRAL_CAPACITY, *[NEUTRAL_PLACE] * batch.width, *[NEUTRAL_SHARE] * batch.width]
        rewards = [batch.step(np.tile(row, (batch.rows, 1)))[0] for _ in range(60)]
        return np.array(rewards), batch.observe().queues.copy()

    alone, seen = play(1)
    shared, seen_by_three = play(3)
    assert alone.any()
    assert np.array_equal(alone, shared)
    assert np.array_equal(seen, seen_by_three)


def take_all(worked, counters, stride):
    """Work on worlds until none is left, as the compiled function does."""
    while True:
        with LOCK:
            first = int(counters[TAKEN])
            counters[TAKEN] += stride
        if first >= len(worked):
            return
        behind = min(first + stride, len(worked))
        worked[first:behind] += 1
        with LOCK:
            counters[DONE] += behind - first


@pytest.mark.parametrize("late_s", [0.0, 0.02])
def test_every_world_is_worked_on_once_also_if_a_thread_comes_late(late_s):
    main = threading.get_ident()

    def work(worked, counters, stride):
        if threading.get_ident() != main:
            time.sleep(late_s)
        take_all(worked, counters, stride)

    threads = WorkerThreads(work, 3)
    for _ in range(20):
        worked = np.zeros(50, dtype=int)
        threads.share((worked,), len(worked), ())
        assert (worked == 1).all()


def test_an_error_in_a_helper_reaches_the_caller_and_the_threads_stay_usable():
    main, raised, failing = threading.get_ident(), threading.Event(), True

    def work(worked, counters, stride):
        if failing and threading.get_ident() != main:
            with LOCK:
                counters[TAKEN] += stride  # worlds that will never be done
            raised.set()
            raise ValueError("a world is broken")
        if failing:
            assert raised.wait(60)
        take_all(worked, counters, stride)

    threads = WorkerThreads(work, 2)
    with pytest.raises(ValueError, match="a world is broken"):
        threads.share((np.zeros(50, dtype=int),), 50, ())
    failing = False
    for _ in range(20):
        worked = np.zeros(50, dtype=int)
        threads.share((worked,), len(worked), ())
        assert (worked == 1).all()


def test_an_error_in_the_calling_thread_waits_for_the_helpers_to_leave():
    main, entered, broken = threading.get_ident(), threading.Event(), threading.Event()
    left = []

    def work(worked, counters, stride):
        if threading.get_ident() == main:
            assert entered.wait(60)
            broken.set()
            raise ValueError("a world is broken")
        entered.set()
        assert broken.wait(60)
        while counters[TAKEN] < len(worked):  # a helper takes worlds until it is told that none is left
            time.sleep(0)
        left.append(True)

    threads = WorkerThreads(work, 2)
    with pytest.raises(ValueError, match="a world is broken"):
        threads.share((np.zeros(50, dtype=int),), 50, ())
    assert left == [True]


def test_threads_end_with_their_owner():
    before = set(threading.enumerate())
    threads = WorkerThreads(lambda *_: None, 3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    del threads
    gc.collect()
    for helper in helpers:
        helper.join(30)
        assert not helper.is_alive()

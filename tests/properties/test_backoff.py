"""Waiting before another attempt: within its bounds whatever failed how often, and not in step with others."""

import random

from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.domain.backoff import backoff_s, jittered

SECONDS = st.floats(0.001, 3600.0)


@given(failures=st.integers(1, 1_000_000), first_s=SECONDS, longest_s=SECONDS, seed=st.integers(0, 2**32))
def test_a_pause_lies_between_half_and_the_whole_of_the_capped_doubling(failures, first_s, longest_s, seed):
    whole_s = longest_s if failures > 60 else min(first_s * 2 ** (failures - 1), longest_s)
    pause_s = backoff_s(failures, first_s=first_s, longest_s=longest_s, rng=random.Random(seed))
    assert whole_s / 2 <= pause_s <= whole_s


@given(failures=st.integers(1, 2000), first_s=SECONDS, longest_s=SECONDS)
def test_processes_that_failed_together_do_not_come_back_together(failures, first_s, longest_s):
    assert len({backoff_s(failures, first_s=first_s, longest_s=longest_s) for _ in range(20)}) > 1
    assert len({jittered(first_s) for _ in range(20)}) > 1


@given(first_s=SECONDS, longest_s=SECONDS, attempts=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_all_pauses_together_take_no_longer_than_without_jitter(first_s, longest_s, attempts, seed):
    rng = random.Random(seed)
    waited_s = sum(backoff_s(n, first_s=first_s, longest_s=longest_s, rng=rng) for n in range(1, attempts + 1))
    assert waited_s <= sum(min(first_s * 2 ** (n - 1), longest_s) for n in range(1, attempts + 1)) * (1 + 1e-9)

"""Each sentence that the guard promises, on any pool, any proposal and any settings, alone and in batches."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.policy import Census, GuardSettings, GuardState, Note, P, Permitted, Proposal, Q, permit
from prefect_intelligent.policy.priority_rules import rank
from prefect_intelligent.testing.strategies import censuses

NOW_S = 1_000_000.0
SAFETY = Note.BOUNDS | Note.RUNNING | Note.STARVED | Note.CONSERVED

limits = st.sampled_from((0.0, 1.0, 2.0, 3.4, 7.0, 40.0, math.inf))
examples = settings(max_examples=40, deadline=None)


@st.composite
def proposals(draw: st.DrawFn, census: Census) -> Proposal:
    """Any proposal with finite scores and usable limits."""
    shape = census.queues.shape[:-1]
    count, pools = int(np.prod(shape)), int(np.prod(shape[:-1]))
    scores = draw(st.lists(st.floats(-100, 100), min_size=count, max_size=count))
    limit = draw(st.lists(limits, min_size=count, max_size=count))
    pool = draw(st.lists(limits, min_size=pools, max_size=pools))
    return Proposal(np.reshape(scores, shape), np.reshape(limit, shape), np.reshape(pool, shape[:-1]))


@st.composite
def settings_of_any_kind(draw: st.DrawFn) -> GuardSettings:
    queue_min, pool_min = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return GuardSettings(
        queue_min=queue_min,
        queue_max=draw(st.sampled_from((2.0, 5.0, math.inf))),
        pool_min=pool_min,
        pool_max=draw(st.sampled_from((3.0, 9.0, math.inf))),
        interval_s=draw(st.sampled_from((0.0, 60.0))),
        step_fraction=draw(st.sampled_from((0.0, 0.5, 1.0))),
        step_slots=draw(st.sampled_from((1.0, 4.0))),
        hysteresis=draw(st.sampled_from((0.0, 0.1, 0.5))),
        starvation_s=draw(st.sampled_from((600.0, 14_400.0))),
        reserve_slots=draw(st.sampled_from((0.0, 1.0, 2.0))),
        reserve_s=draw(st.sampled_from((0.0, 600.0))),
        lower_after_s=draw(st.sampled_from((0.0, 600.0))),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Proposal, Census, GuardSettings]:
    """One pool or a batch of two, with a proposal and settings."""
    census = draw(censuses(most_queues=4, pools=draw(st.sampled_from((None, 2)))))
    return draw(proposals(census)), census, draw(settings_of_any_kind())


def decide(proposal: Proposal, census: Census, rules: GuardSettings, **more: object) -> Permitted:
    state = more.pop("state", None) or GuardState.start(census)
    return permit(proposal, census, state, rules, now_s=NOW_S, **more)  # type: ignore[arg-type]


def order_of(permitted: Permitted) -> np.ndarray:
    return -permitted.proposal.score


def pools(census: Census, permitted: Permitted) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]]:
    """Per pool: its queue table, pool figures, permitted places, limits and pool limit, present queues only."""
    n = census.queues.shape[-2]
    tables, figures = census.queues.reshape(-1, n, len(Q)), census.pool.reshape(-1, len(P))
    places, queue_limits = order_of(permitted).reshape(-1, n), permitted.proposal.limit.reshape(-1, n)
    found = []
    for i, table in enumerate(tables):
        there = table[:, Q.PRESENT] > 0
        pool_limit = float(np.ravel(permitted.proposal.pool_limit)[i])
        found.append((table[there], figures[i], places[i][there], queue_limits[i][there], pool_limit))
    return found


def closed(row: np.ndarray) -> bool:
    return bool(row[Q.PAUSED]) or row[Q.LIMIT] == 0


@examples
@given(case=cases())
def test_the_order_is_a_permutation_of_the_queues(case: tuple[Proposal, Census, GuardSettings]) -> None:
    for _, _, places, _, _ in pools(case[1], decide(*case)):
        assert sorted(places) == list(range(len(places)))


@examples
@given(case=cases())
def test_limits_lie_in_their_bounds_unless_a_person_or_running_work_forbids(
    case: tuple[Proposal, Census, GuardSettings],
) -> None:
    rules = case[2]
    for table, figures, _, queue_limits, pool_limit in pools(case[1], decide(*case)):
        for row, limit in zip(table, queue_limits, strict=True):
            if not closed(row):
                assert limit >= rules.queue_min
                assert limit <= max(rules.queue_max, min(row[Q.ACTIVE], row[Q.LIMIT]))
        if figures[P.LIMIT] > 0 and not figures[P.PAUSED]:
            assert pool_limit >= rules.pool_min
            assert pool_limit <= max(rules.pool_max, min(figures[P.ACTIVE], figures[P.LIMIT]))


@examples
@given(case=cases())
def test_never_below_what_is_running(case: tuple[Proposal, Census, GuardSettings]) -> None:
    for table, figures, _, queue_limits, pool_limit in pools(case[1], decide(*case)):
        assert (queue_limits >= np.minimum(table[:, Q.ACTIVE], table[:, Q.LIMIT])).all()
        assert pool_limit >= min(figures[P.ACTIVE], figures[P.LIMIT])


@examples
@given(case=cases())
def test_no_slot_stays_idle_while_a_run_waits_that_could_start(case: tuple[Proposal, Census, GuardSettings]) -> None:
    """Dispatch as Prefect would, then look for a run that people's limits and the resources would have let start."""
    _, census, rules = case
    for table, figures, places, queue_limits, pool_limit in pools(census, decide(*case)):
        room = max(0.0, pool_limit - figures[P.ACTIVE])
        load: dict[float, float] = {row[Q.RESOURCE]: row[Q.RESOURCE_ACTIVE] for row in table if row[Q.RESOURCE]}
        started = np.zeros(len(table))
        for i in np.argsort(places):
            if not closed(table[i]):
                may = min(table[i][Q.WAITING], queue_limits[i] - table[i][Q.ACTIVE])
                started[i] = max(0.0, min(may, room))
                room -= started[i]
                load[table[i][Q.RESOURCE]] = load.get(table[i][Q.RESOURCE], 0.0) + started[i]
        starving = any(row[Q.WAITING] and row[Q.HEAD_WAIT_S] > rules.starvation_s and not closed(row) for row in table)
        soon = sum(bool(row[Q.UPCOMING]) and row[Q.NEXT_IN_S] <= rules.reserve_s and not closed(row) for row in table)
        reserved = 0.0 if starving else min(rules.reserve_slots, soon)
        if room <= reserved:
            continue
        for row, new in zip(table, started, strict=True):
            could = row[Q.WAITING] > new and row[Q.ACTIVE] + new < min(row[Q.LIMIT], rules.queue_max)
            free = not row[Q.RESOURCE] or load[row[Q.RESOURCE]] + 1 <= row[Q.RESOURCE_CAPACITY]
            assert closed(row) or not (could and free)


@examples
@given(case=cases())
def test_a_queue_that_starves_is_served_first_while_the_pool_has_room(
    case: tuple[Proposal, Census, GuardSettings],
) -> None:
    rules = case[2]
    for table, figures, places, queue_limits, pool_limit in pools(case[1], decide(*case)):
        starved = [not closed(row) and row[Q.WAITING] > 0 and row[Q.HEAD_WAIT_S] > rules.starvation_s for row in table]
        assert sorted(places[starved]) == list(range(sum(starved)))  # in front of all that do not starve
        waits = table[:, Q.HEAD_WAIT_S][starved][np.argsort(places[starved])]
        assert (np.diff(waits) <= 0).all()  # the longest wait first
        for row, limit in zip(table[starved], queue_limits[starved], strict=True):
            assert limit >= min(row[Q.ACTIVE] + 1, rules.queue_max)
        if any(starved) and figures[P.LIMIT] > figures[P.ACTIVE] and rules.pool_max > figures[P.ACTIVE]:
            assert pool_limit > figures[P.ACTIVE]  # the room that there is does not go away


@examples
@given(case=cases())
def test_a_value_changes_once_per_interval_except_for_safety(case: tuple[Proposal, Census, GuardSettings]) -> None:
    proposal, census, rules = case
    rules = replace(rules, interval_s=60.0)
    first = decide(proposal, census, rules)
    now = in_force(census, first)
    other = Proposal(-proposal.score, proposal.limit + 3, proposal.pool_limit + 3)
    second = permit(other, now, first.state, rules, now_s=NOW_S + 30.0)
    moved_twice = (first.proposal.limit != census[Q.LIMIT]) & (second.proposal.limit != now[Q.LIMIT])
    assert ((second.queue_notes & SAFETY)[moved_twice] != 0).all()
    pool_twice = (first.proposal.pool_limit != census[P.LIMIT]) & (second.proposal.pool_limit != now[P.LIMIT])
    assert (np.asarray(second.pool_notes & SAFETY)[pool_twice] != 0).all()
    order_twice = (order_of(first) != ranks(census)).any(-1) & (order_of(second) != ranks(now)).any(-1)
    starved = np.any(second.queue_notes & Note.STARVED, axis=-1)
    assert (np.asarray(starved)[order_twice]).all()


@examples
@given(case=cases())
def test_a_pool_limit_that_has_just_changed_is_raised_but_not_lowered(
    case: tuple[Proposal, Census, GuardSettings],
) -> None:
    proposal, census, rules = case
    rules = replace(rules, interval_s=0.0, lower_after_s=3600.0)
    first = decide(proposal, census, rules)
    now = in_force(census, first)
    lower = Proposal(proposal.score, proposal.limit, np.ones_like(proposal.pool_limit))
    changed = first.proposal.pool_limit != census[P.LIMIT]
    for age_s, may_lower in ((3599.0, False), (3601.0, True)):
        second = permit(lower, now, first.state, rules, now_s=NOW_S + age_s)
        lowered = (second.proposal.pool_limit < now[P.LIMIT]) & changed
        safe = np.asarray(second.pool_notes & Note.BOUNDS) != 0
        assert may_lower or not (lowered & ~safe).any()


@examples
@given(case=cases())
def test_steps_are_bounded_except_for_safety(case: tuple[Proposal, Census, GuardSettings]) -> None:
    _, census, rules = case
    permitted = decide(*case)
    for before, after, notes in (
        (census[Q.LIMIT], permitted.proposal.limit, permitted.queue_notes),
        (census[P.LIMIT], permitted.proposal.pool_limit, permitted.pool_notes),
    ):
        finite = np.isfinite(before) & np.isfinite(after) & (np.asarray(notes & SAFETY) == 0)
        largest = np.maximum(rules.step_slots, np.floor(rules.step_fraction * before[finite]))
        assert (np.abs(after[finite] - before[finite]) <= largest).all()


@examples
@given(case=cases())
def test_hysteresis_leaves_small_differences_alone(case: tuple[Proposal, Census, GuardSettings]) -> None:
    _, census, rules = case
    permitted = decide(*case)
    before, after = np.minimum(census[Q.LIMIT], 1e9), np.minimum(permitted.proposal.limit, 1e9)
    change = np.abs(after - before)
    small = (change > 0) & (change <= rules.hysteresis * before)
    assert ((permitted.queue_notes & (SAFETY | Note.STEP))[small] != 0).all()


@examples
@given(case=cases(), age_s=st.sampled_from((0.0, 301.0)))
def test_invalid_or_stale_proposals_give_way_to_the_fallback(
    case: tuple[Proposal, Census, GuardSettings], age_s: float
) -> None:
    proposal, census, rules = case
    fallback = decide(proposal, census, rules)
    for spoilt in (
        Proposal(proposal.score * math.nan, proposal.limit, proposal.pool_limit),
        Proposal(proposal.score, np.full_like(proposal.limit, -1.0), proposal.pool_limit),
        Proposal(proposal.score, proposal.limit, proposal.pool_limit * math.nan),
        proposal,
    ):
        if spoilt is proposal and age_s == 0.0:
            continue
        result = decide(spoilt, census, rules, fallback=proposal, age_s=age_s)
        assert same(result, fallback)
        assert (result.pool_notes & (Note.INVALID | Note.EXPIRED) != 0).all()


@examples
@given(case=cases())
def test_without_any_usable_proposal_what_is_in_force_is_the_proposal(
    case: tuple[Proposal, Census, GuardSettings],
) -> None:
    proposal, census, rules = case
    spoilt = Proposal(proposal.score * math.nan, proposal.limit, proposal.pool_limit)
    kept = Proposal(-census[Q.RANK], census[Q.LIMIT], census[P.LIMIT])
    assert same(decide(spoilt, census, rules, fallback=spoilt), decide(kept, census, rules))


@examples
@given(case=cases())
def test_the_kill_switch_changes_nothing(case: tuple[Proposal, Census, GuardSettings]) -> None:
    proposal, census, rules = case
    assert unchanged(decide(proposal, census, replace(rules, enabled=False)), census)


@examples
@given(case=cases())
def test_the_default_policy_within_wide_bounds_changes_nothing(case: tuple[Proposal, Census, GuardSettings]) -> None:
    _, census, _ = case
    kept = Proposal(-census[Q.RANK], census[Q.LIMIT], census[P.LIMIT])
    assert unchanged(decide(kept, census, GuardSettings(starvation_s=math.inf)), census)


@examples
@given(case=cases(), data=st.data())
def test_pinned_values_and_soft_pauses_are_left_alone(
    case: tuple[Proposal, Census, GuardSettings], data: st.DataObject
) -> None:
    proposal, census, rules = case
    n = census.queues.shape[-2]
    flags = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    order_pinned, limit_pinned = data.draw(flags), data.draw(flags)
    pinned = replace(rules, order_pinned=order_pinned, limit_pinned=limit_pinned, pool_pinned=True)
    permitted = decide(proposal, census, pinned)
    there = census.present
    assert (order_of(permitted) == ranks(census))[there & order_pinned].all()
    left_alone = limit_pinned | (census[Q.PAUSED] > 0) | (census[Q.LIMIT] == 0)
    assert (permitted.proposal.limit == census[Q.LIMIT])[there & left_alone].all()
    assert np.array_equal(permitted.proposal.pool_limit, census[P.LIMIT])


@examples
@given(data=st.data())
def test_a_batch_is_decided_as_its_pools_are_alone(data: st.DataObject) -> None:
    batch = data.draw(censuses(most_queues=4, pools=3))
    proposal, rules = data.draw(proposals(batch)), data.draw(settings_of_any_kind())
    together = decide(proposal, batch, rules)
    for i in range(3):
        one = Census(batch.queues[i], batch.pool[i])
        alone = decide(Proposal(proposal.score[i], proposal.limit[i], proposal.pool_limit[i]), one, rules)
        assert np.array_equal(alone.proposal.score, together.proposal.score[i])
        assert np.array_equal(alone.proposal.limit, together.proposal.limit[i])
        assert alone.proposal.pool_limit == together.proposal.pool_limit[i]
        assert np.array_equal(alone.queue_notes, together.queue_notes[i])


def ranks(census: Census) -> np.ndarray:
    return rank(-census[Q.RANK], census)


def in_force(census: Census, permitted: Permitted) -> Census:
    """The pool right after the permitted settings are applied."""
    after = Census(census.queues.copy(), census.pool.copy())
    after.queues[..., Q.RANK] = np.where(census.present, order_of(permitted), 0)
    after.queues[..., Q.LIMIT] = np.where(census.present, permitted.proposal.limit, 0)
    after.pool[..., P.LIMIT] = permitted.proposal.pool_limit
    return after


def same(one: Permitted, other: Permitted) -> bool:
    return all(
        np.array_equal(getattr(one.proposal, field), getattr(other.proposal, field))
        for field in ("score", "limit", "pool_limit")
    )


def unchanged(permitted: Permitted, census: Census) -> bool:
    there = census.present
    return bool(
        (order_of(permitted) == ranks(census)).all()
        and (permitted.proposal.limit == census[Q.LIMIT])[there].all()
        and np.array_equal(permitted.proposal.pool_limit, census[P.LIMIT])
    )

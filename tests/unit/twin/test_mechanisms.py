"""Each mechanism of the twin in a world small enough to do by hand. Times in seconds from 0."""

import math
from dataclasses import replace
from datetime import date as date_of

import numpy as np
import pytest

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.cloud_prices import sheet_names, sheet_origin, slot_prices
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.model.world import FAILS
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec
from tests.small_worlds import AT_ONCE, ONE_QUEUE, claims, ends, run, runs_of


def test_strict_priority_then_first_scheduled_first() -> None:
    queues = (QueueSetting(name="a", priority=2), QueueSetting(name="b", priority=1))
    deployments = [DeploymentSpec(name="x", queue="a"), DeploymentSpec(name="y", queue="b")]
    rows = [{"at": 0, "work": 5}, {"at": 1}, {"at": 2, "deployment": 1}, {"at": 3, "deployment": 1}]
    twin = run(build_world([PoolSpec(queues=queues, limit=1, **AT_ONCE)], deployments, runs_of(rows)))
    assert claims(twin) == [0, 25, 5, 15]


def test_equal_priorities_merge_by_scheduled_time() -> None:
    queues = (QueueSetting(name="a", priority=7), QueueSetting(name="b", priority=7))
    deployments = [DeploymentSpec(name="x", queue="a"), DeploymentSpec(name="y", queue="b")]
    rows = [{"at": 0, "work": 5}, {"at": 2}, {"at": 1, "deployment": 1}]
    twin = run(build_world([PoolSpec(queues=queues, limit=1, **AT_ONCE)], deployments, runs_of(rows)))
    assert claims(twin) == [0, 15, 5]


def test_runs_start_only_at_polls_and_pending_holds_the_slot() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=1, poll_s=10.0, poll_jitter=0.0, prefetch_s=0.0, startup_s=4.0, startup_spread=0.0
    )
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"at": 20}, {"at": 20}])))
    first, second = claims(twin)
    assert 20 <= first < 30
    assert ends(twin)[0] == pytest.approx(first + 14)
    assert second == pytest.approx(first + 20)


def test_a_known_run_is_prefetched_and_waits_for_its_time() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=1, poll_s=1.0, prefetch_s=10.0, startup_s=2.0, startup_spread=0.0)
    rows = [{"at": 100, "known": -math.inf, "work": 5}]
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of(rows)))
    assert 90 <= claims(twin)[0] <= 92
    assert ends(twin) == [105]


def test_a_full_deployment_sends_its_run_back_for_thirty_seconds() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", limit=1)]
    twin = run(build_world([PoolSpec(queues=ONE_QUEUE, limit=9, **AT_ONCE)], deployments, runs_of([{"work": 40}, {}])))
    assert claims(twin) == [0, 60]
    assert np.sum(twin.log()["kind"] == kinds.BOUNCED) == 2


def test_a_full_deployment_may_cancel_instead() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", limit=1, cancels_new=True)]
    twin = run(build_world([PoolSpec(queues=ONE_QUEUE, limit=9, **AT_ONCE)], deployments, runs_of([{"work": 40}, {}])))
    assert twin.state.runs["phase"][0].tolist() == [phases.COMPLETED, phases.CANCELLED]


def test_a_run_that_would_be_marked_late_is_cancelled_while_its_deployment_is_full() -> None:
    """Prefect's service does it although no worker has ever asked for the run: the pool has no room."""
    queues = (QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2))
    deployments = [DeploymentSpec(name="x", queue="a", limit=1, cancels_new=True), DeploymentSpec(name="y", queue="b")]
    pool = PoolSpec(queues=queues, limit=2, late_after_s=15.0, late_loop_s=5.0, **AT_ONCE)
    # x and y hold both slots until 100. The second x would be late by 20 and is cancelled; the second y waits.
    rows = [{"work": 100}, {"work": 100, "deployment": 1}, {"at": 1}, {"at": 1, "deployment": 1}, {"at": 90}]
    twin = run(build_world([pool], deployments, runs_of(rows)))
    ended = twin.state.runs["finished_s"][0]
    assert twin.state.runs["phase"][0].tolist() == [
        phases.COMPLETED, phases.COMPLETED, phases.CANCELLED, phases.COMPLETED, phases.COMPLETED,
    ]  # fmt: skip
    assert 16 <= ended[2] < 21
    assert ended[4] == 110  # it would be late at 105 at the earliest, and has a slot by then
    assert twin.state.queues["waiting"][0].tolist() == [0, 0]


def test_a_run_that_is_marked_late_while_its_deployment_has_room_waits_on() -> None:
    queues = (QueueSetting(name="a", priority=2), QueueSetting(name="b", priority=1))
    deployments = [DeploymentSpec(name="x", queue="a", limit=1, cancels_new=True), DeploymentSpec(name="y", queue="b")]
    pool = PoolSpec(queues=queues, limit=1, late_after_s=15.0, late_loop_s=0.0, **AT_ONCE)
    rows = [{"work": 100, "deployment": 1}, {"at": 1}]
    twin = run(build_world([pool], deployments, runs_of(rows)))
    assert ends(twin) == [100, 110]


def test_paused_queues_and_limits_hold_runs_back() -> None:
    queues = (QueueSetting(name="a", priority=1, paused=True), QueueSetting(name="b", priority=2, limit=1))
    deployments = [DeploymentSpec(name="x", queue="a"), DeploymentSpec(name="y", queue="b")]
    rows = [{}, {"deployment": 1}, {"deployment": 1}]
    twin = Twin(build_world([PoolSpec(queues=queues, **AT_ONCE)], deployments, runs_of(rows)))
    twin.advance(1000.0)
    assert math.isnan(claims(twin)[0])
    assert claims(twin)[1:] == [0, 10]


def test_slots_that_are_ordered_come_after_the_boot_and_are_paid_from_the_order() -> None:
    prices = Prices(slot_usd_per_hour=3600.0)
    pool = PoolSpec(queues=ONE_QUEUE, limit=1, boot_s=100.0, prices=prices, **AT_ONCE)
    twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 500}, {"work": 500}])))
    twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), np.inf), np.array([2.0])))
    twin.finish()
    assert claims(twin) == [0, 100]
    assert ends(twin) == [500, 600]
    assert twin.cost().capacity_usd == pytest.approx(500 + 600 + 100)  # the first slot is idle from 500 to 600


def test_surplus_nodes_go_after_the_cooldown_and_never_below_what_runs() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=4, node_slots=2, cooldown_s=50.0, **AT_ONCE)
    twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 300}])), log=True)
    twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), np.inf), np.array([1.0])))
    twin.finish()
    owned = twin.log()[twin.log()["kind"] == kinds.OWNED]
    assert owned[["at_s", "value"]].tolist() == [(0, 4), (50, 2)]


def test_every_surplus_node_has_a_cooldown_of_its_own_and_keeps_it_while_another_is_needed_again() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, max_slots=9, follows_demand=True, claims_ahead=True, cooldown_s=50.0, boot_s=5.0, **AT_ONCE
    )
    # On three nodes: one is empty from 15, two from 25; at 30 a run needs one of them, until 40.
    rows = [{"work": 10}, {"work": 20}, {"work": 200}, {"at": 30, "work": 10}]
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of(rows)))
    assert ends(twin) == [15, 25, 205, 40]
    owned = twin.log()[twin.log()["kind"] == kinds.OWNED]
    assert owned[["at_s", "value"]].tolist() == [(0, 0), (0, 1), (0, 2), (0, 3), (65, 2), (90, 1)]


def test_a_raised_limit_takes_a_surplus_node_back_before_its_cooldown_is_over() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=3, cooldown_s=50.0, **AT_ONCE)
    twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"at": 500}])), log=True)
    for at_s, limit in ((0.0, 1.0), (20.0, 2.0), (40.0, 1.0), (200.0, 1.0)):
        twin.advance(at_s)
        twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), np.inf), np.array([limit])))
    owned = twin.log()[twin.log()["kind"] == kinds.OWNED]
    assert owned[["at_s", "value"]].tolist() == [(0, 3), (50, 2), (90, 1)]


def test_a_run_that_resumes_in_its_process_keeps_its_node() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, max_slots=2, follows_demand=True, claims_ahead=True, cooldown_s=50.0, **AT_ONCE)
    retried = DeploymentSpec(name="x", queue="q", retries=1, retry_delay_s=30.0)
    twin = run(build_world([pool], [retried], runs_of([{"outcome_source": FAILS, "work": 60}, {"work": 190}])))
    owned = twin.log()[twin.log()["kind"] == kinds.OWNED]
    assert owned[["at_s", "value"]].tolist() == [(0, 0), (0, 1), (0, 2)]  # empty from 60 to 90, then from 150 on


def test_claimed_runs_line_up_for_a_node() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=3, max_slots=3, follows_demand=True, claims_ahead=True, boot_s=60.0, **AT_ONCE
    )
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{}, {}, {}])))
    assert claims(twin) == [0, 0, 0]
    assert ends(twin) == [70, 70, 70]


def test_the_spot_market_takes_runs_and_they_start_over() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=1, reclaims=((5.0, 1.0),), spot_prices=((5.0, 7.0),), boot_s=20.0, **AT_ONCE
    )
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q", crash_retries=1)], runs_of([{}])))
    assert ends(twin) == [35]
    assert twin.state.pools["usd_per_hour"][0, 0] == 7
    lost = run(build_world([pool], [DeploymentSpec(name="x", queue="q", failure_usd=3.0)], runs_of([{}])))
    assert lost.state.runs["phase"][0, 0] == phases.CRASHED
    assert lost.cost().failure_usd == 3


def test_retries_back_off_and_resume_without_asking_for_a_slot() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", retries=2, retry_delay_s=20, retry_backoff=2.0, failure_usd=1.0)]
    rows = [{"outcome_source": FAILS}, {"work": 1000}]
    twin = run(build_world([PoolSpec(queues=ONE_QUEUE, limit=1, **AT_ONCE)], deployments, runs_of(rows)))
    assert ends(twin)[0] == 10 + 20 + 10 + 40 + 10
    assert claims(twin)[1] == 10  # the slot was free while the retry waited; both then run at once
    assert twin.cost().failure_usd == 1


def test_a_timeout_fails_the_attempt() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", timeout_s=30.0)]
    twin = run(build_world([PoolSpec(queues=ONE_QUEUE, limit=1, **AT_ONCE)], deployments, runs_of([{"work": 100}])))
    assert ends(twin) == [30]
    assert twin.state.runs["phase"][0, 0] == phases.FAILED


def test_a_crowded_resource_slows_everybody_down() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", resources=("db",)), DeploymentSpec(name="y", queue="q")]
    rows = [{"work": 100}, {"work": 100}, {"work": 100, "deployment": 1}]
    pool = PoolSpec(queues=ONE_QUEUE, **AT_ONCE)
    resources = [ResourceSpec(name="db", capacity=1.0, slowdown=1.0)]
    assert ends(run(build_world([pool], deployments, runs_of(rows), resources=resources))) == [200, 200, 100]
    rows[1]["at"] = 50
    assert ends(run(build_world([pool], deployments, runs_of(rows), resources=resources))) == [150, 200, 100]


def test_downstream_runs_are_released_by_all_their_upstreams_and_dropped_with_a_failed_one() -> None:
    deployments = [DeploymentSpec(name="x", queue="q")]
    pool = PoolSpec(queues=ONE_QUEUE, **AT_ONCE)
    edges = [(0, 2), (1, 2), (2, 3)]
    rows = [{"work": 10}, {"work": 30}, {"work": 5, "within": 4.0}, {"work": 5, "due": 36.0}]
    twin = run(build_world([pool], deployments, runs_of(rows, edges)))
    assert ends(twin) == [10, 30, 35, 40]
    assert twin.state.runs["due_s"][0].tolist()[2:] == [34, 36]
    rows[1]["outcome_source"] = FAILS
    dropped = run(build_world([pool], deployments, runs_of(rows, edges)))
    assert dropped.state.runs["phase"][0].tolist() == [
        phases.COMPLETED, phases.FAILED, phases.CANCELLED, phases.CANCELLED,
    ]  # fmt: skip
    assert dropped.done.all()


def test_lateness_accrues_from_the_due_instant_and_for_a_run_that_comes_too_late() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", late_usd_per_hour=3600.0)]
    pool = PoolSpec(queues=ONE_QUEUE, limit=1, prices=Prices(lateness_weight=2.0), **AT_ONCE)
    twin = Twin(build_world([pool], deployments, runs_of([{"work": 100, "due": 40}])))
    twin.advance(70.0)
    assert twin.cost().lateness_usd == pytest.approx(2 * 30)
    twin.finish()
    assert twin.cost().lateness_usd == pytest.approx(2 * 60)
    chain = run(build_world([pool], deployments, runs_of([{"work": 100}, {"work": 1, "due": 40}], [(0, 1)])))
    assert chain.cost().lateness_usd == pytest.approx(2 * 61)


def test_minimum_billing_is_per_attempt_without_nodes() -> None:
    prices = Prices(slot_usd_per_hour=3600.0, min_billing_s=60.0, idle_fraction=0.0)
    pool = PoolSpec(queues=ONE_QUEUE, owned=False, prices=prices, **AT_ONCE)
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 10}, {"work": 100}])))
    assert twin.cost().capacity_usd == pytest.approx(160)


def test_a_poll_after_a_change_may_overshoot_a_limit() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=2, max_slots=9, owned=False, poll_s=10.0, poll_jitter=0.0, prefetch_s=0.0,
        overshoot=1.0, startup_s=0.0,
    )  # fmt: skip
    rows = [{"at": 1, "work": 500} for _ in range(9)]
    twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of(rows)))
    twin.advance(15.0)
    assert twin.state.pools["active"][0, 0] == 2
    twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), 8.0), np.array([2.0])))
    twin.advance(40.0)
    assert twin.state.pools["active"][0, 0] == 4


def test_the_draws_of_a_run_do_not_depend_on_the_order_of_service() -> None:
    queues = (QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2))
    deployments = [DeploymentSpec(name=name, queue=name, fails=0.5, retries=3) for name in ("a", "b")]
    rows = [{"deployment": number % 2} for number in range(60)]
    pool = PoolSpec(queues=queues, limit=2, poll_s=0.0, prefetch_s=0.0)
    seen = []
    for score in ([1.0, 0.0], [0.0, 1.0]):
        twin = Twin(build_world([pool], deployments, runs_of(rows), seed=5))
        twin.plan(Proposal(np.array([score]), np.full((1, 2), np.inf), np.array([2.0])))
        twin.finish()
        seen.append((twin.state.runs["failures"][0].tolist(), twin.state.runs["held_s"][0].round(6).tolist()))
    assert seen[0] == seen[1]
    assert max(seen[0][0]) > 1


def test_a_poll_comes_within_its_jittered_period() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=1, poll_s=10.0, poll_jitter=0.3, prefetch_s=0.0, startup_s=0.0, poll_batch=1
    )
    rows = [{"at": 0, "work": 0.5} for _ in range(400)]
    gaps = np.diff(sorted(claims(run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of(rows))))))
    assert gaps.min() >= 7.0
    assert gaps.max() <= 13.0
    assert gaps.mean() == pytest.approx(10.0, abs=0.4)


def test_one_poll_claims_at_most_its_batch() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE, limit=99, poll_s=10.0, poll_jitter=0.0, prefetch_s=0.0, startup_s=0.0, poll_batch=4
    )
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"at": 1} for _ in range(10)])))
    assert np.unique(claims(twin), return_counts=True)[1].tolist() == [4, 4, 2]


def test_start_up_holds_the_slot_and_is_lognormal() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, poll_s=0.0, prefetch_s=0.0, startup_s=45.0, startup_spread=0.6, max_slots=4000)
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 1} for _ in range(3000)])))
    waited = twin.log()[twin.log()["kind"] == kinds.STARTED]["value"]
    assert np.median(waited) == pytest.approx(45.0, rel=0.05)
    assert np.quantile(waited, 0.95) == pytest.approx(45.0 * math.exp(1.645 * 0.6), rel=0.08)


def test_a_node_is_billed_for_its_minimum_and_a_faster_one_is_not() -> None:
    prices = Prices(slot_usd_per_hour=3600.0)
    for after_s, usd in ((20.0, 100.0 + 100.0), (400.0, 400.0 + 400.0)):
        pool = PoolSpec(
            queues=ONE_QUEUE, limit=2, min_slots=0, node_min_billing_s=100.0, max_slots=2, prices=prices, **AT_ONCE
        )
        twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 10}])))
        twin.advance(after_s)
        twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), np.inf), np.array([0.0])))
        twin.advance(after_s + 1000.0)
        assert twin.cost().capacity_usd == pytest.approx(usd)


def test_a_reclaim_takes_its_share_of_the_pool_at_one_instant() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=8, max_slots=8, reclaims=((5.0, 0.5),), boot_s=60.0, **AT_ONCE)
    deployments = [DeploymentSpec(name="x", queue="q", crash_retries=1)]
    twin = run(build_world([pool], deployments, runs_of([{"work": 100} for _ in range(8)])))
    log = twin.log()
    crashed = log[(log["kind"] == kinds.ENDED) & (log["where"] == phases.CRASHED)]
    assert crashed["at_s"].tolist() == [5.0] * 4
    assert sorted(ends(twin)) == [100.0] * 4 + [165.0] * 4  # new nodes are up a minute later and they start over


def test_the_spot_price_is_that_of_each_instant() -> None:
    pool = PoolSpec(
        queues=ONE_QUEUE,
        limit=1,
        prices=Prices(slot_usd_per_hour=3600.0, idle_fraction=0.0),
        spot_prices=((10.0, 7200.0), (20.0, 0.0)),
        **AT_ONCE,
    )
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 30}])))
    assert twin.cost().capacity_usd == pytest.approx(10 * 1 + 10 * 2 + 10 * 0)


def test_a_crowded_resource_makes_failures_likelier() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", resources=("db",))]
    pool = PoolSpec(queues=ONE_QUEUE, max_slots=4000, **AT_ONCE)
    shares = []
    for together in (1, 2, 3):
        rows = [{"at": 1000.0 * (number // together), "work": 10} for number in range(1200)]
        resources = [ResourceSpec(name="db", capacity=1.0, slowdown=0.0, failure=0.2)]
        twin = run(build_world([pool], deployments, runs_of(rows), resources=resources, seed=together))
        shares.append(float(np.mean(twin.state.runs["phase"][0] == phases.FAILED)))
    # one alone: 0; of two the second meets an excess of one capacity (.2); of three 0, .2, .4
    assert shares == pytest.approx([0.0, 0.1, 0.2], abs=0.03)


def test_crashes_come_with_their_chance_and_are_scheduled_again() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, max_slots=4000, **AT_ONCE)
    lost = [DeploymentSpec(name="x", queue="q", crashes=0.3, failure_usd=1.0)]
    twin = run(build_world([pool], lost, runs_of([{} for _ in range(2000)])))
    assert twin.cost().failure_usd / 2000 == pytest.approx(0.3, abs=0.03)
    again = [DeploymentSpec(name="x", queue="q", crashes=0.3, crash_retries=1, failure_usd=1.0)]
    twin = run(build_world([pool], again, runs_of([{} for _ in range(2000)])))
    assert twin.cost().failure_usd / 2000 == pytest.approx(0.09, abs=0.02)


def test_a_retry_through_the_queue_waits_for_a_slot_like_everybody() -> None:
    deployments = [DeploymentSpec(name="x", queue="q", retries=1, retry_delay_s=5, retry_in_process=False)]
    rows = [{"outcome_source": FAILS}, {"work": 1000}]
    twin = run(build_world([PoolSpec(queues=ONE_QUEUE, limit=1, **AT_ONCE)], deployments, runs_of(rows)))
    assert claims(twin) == [0, 10]
    assert ends(twin) == [1010 + 10, 1010]


def test_a_pool_without_room_turns_runs_away() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=1, room=2, **AT_ONCE)
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{}, {}, {}, {"at": 15}])))
    assert twin.state.runs["phase"][0].tolist() == [
        phases.COMPLETED, phases.COMPLETED, phases.CANCELLED, phases.COMPLETED,
    ]  # fmt: skip


def test_pools_are_separate_but_resources_are_shared() -> None:
    pools = [
        PoolSpec(queues=(QueueSetting(name="a", priority=1),), limit=1, **AT_ONCE),
        PoolSpec(queues=(QueueSetting(name="b", priority=1),), limit=1, **AT_ONCE),
    ]
    apart = [DeploymentSpec(name="x", queue="a"), DeploymentSpec(name="y", queue="b")]
    rows = [{}, {}, {"deployment": 1}, {"deployment": 1}]
    assert ends(run(build_world(pools, apart, runs_of(rows)))) == [10, 20, 10, 20]
    shared = [replace(each, resources=("db",)) for each in apart]
    resources = [ResourceSpec(name="db", capacity=1.0, slowdown=1.0)]
    assert ends(run(build_world(pools, shared, runs_of(rows), resources=resources))) == [20, 40, 20, 40]


def test_limits_that_shrink_never_stop_what_runs() -> None:
    pool = PoolSpec(queues=ONE_QUEUE, limit=4, **AT_ONCE)
    twin = Twin(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 50} for _ in range(6)])))
    twin.advance(10.0)
    twin.plan(Proposal(np.zeros((1, 1)), np.full((1, 1), 1.0), np.array([1.0])))
    twin.finish()
    assert ends(twin) == [50] * 4 + [100, 150]


def test_a_run_may_take_no_time_at_all() -> None:
    rows = [{"work": 0.0, "p50": 1.0}, {"work": 5.0}, {"work": 0.0, "p50": 1.0}]
    pool = PoolSpec(queues=ONE_QUEUE, limit=1, **AT_ONCE)
    twin = run(build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of(rows, [(1, 2)])))
    assert ends(twin) == [0, 5, 5]
    assert twin.state.runs["phase"][0].tolist() == [phases.COMPLETED] * 3
    with pytest.raises(InvalidInputError, match="p50_s"):  # an estimate is divided by
        build_world([pool], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": 0.0}]))


@pytest.mark.parametrize("work", [-1.0, math.nan, math.inf])
def test_impossible_durations_are_refused(work: float) -> None:
    with pytest.raises(InvalidInputError, match="durations must be"):
        build_world([PoolSpec(queues=ONE_QUEUE)], [DeploymentSpec(name="x", queue="q")], runs_of([{"work": work}]))


def test_names_that_do_not_fit_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'bulk'"):
        build_world(
            [PoolSpec(queues=(QueueSetting(name="bulk", priority=1),))],
            [DeploymentSpec(name="x", queue="bulc")],
            runs_of([{}]),
        )
    with pytest.raises(UnknownNameError, match="'warehouse'"):
        build_world(
            [PoolSpec(queues=ONE_QUEUE)],
            [DeploymentSpec(name="x", queue="q", resources=("warehose",))],
            runs_of([{}]),
            resources=[ResourceSpec(name="warehouse", capacity=1.0)],
        )


def test_every_price_has_a_source_and_a_date() -> None:
    for name in sheet_names():
        source, date = sheet_origin(name)
        assert source.startswith("https://")
        assert date_of.fromisoformat(date) <= date_of(2026, 11, 23)  # no price from the future
        assert slot_prices(name).slot_usd_per_hour > 0
    assert slot_prices("aws-us-east-1/fargate", vcpu=2, gb=8).slot_usd_per_hour == pytest.approx(0.11652)
    assert slot_prices("aws-us-east-1/m5.large", vcpu=2, gb=8).slot_usd_per_hour == pytest.approx(0.096)
    with pytest.raises(UnknownNameError, match="fargate"):
        slot_prices("aws-us-east-1/fargat")


def test_a_run_can_be_stopped_from_outside_and_its_crash_retried():
    from prefect_intelligent.twin.model.stop_run import stop_run

    pool = PoolSpec(queues=ONE_QUEUE, limit=1, **AT_ONCE)
    job = DeploymentSpec(name="d", queue="q", crash_retries=1)
    twin = Twin(build_world([pool], [job], runs_of([{"work": 100.0}, {"work": 10.0}])))
    twin.advance(40.0)
    assert not stop_run(twin.world, twin.state, 0, 1, phases.CRASHED)
    assert stop_run(twin.world, twin.state, 0, 0, phases.CRASHED)
    twin.finish()
    assert ends(twin) == [150.0, 50.0]  # back in line, behind what was due before its crash
    assert twin.state.runs["held_s"][0].tolist() == [140.0, 10.0]

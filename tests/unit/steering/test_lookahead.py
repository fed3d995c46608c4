"""The twin is asked before a learned plan is followed; what it says is recorded, and a bad plan is not applied."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, Run, RunPhase
from prefect_intelligent.model_registry.adapters.folder import PolicyFiles
from prefect_intelligent.model_registry.champion_policy import ChampionPolicy
from prefect_intelligent.model_registry.promotion import CHAMPION
from prefect_intelligent.policy import Census, Proposal, parse_policy
from prefect_intelligent.policy.bundle import read_bundle
from prefect_intelligent.policy.census import P, Q, take_census
from prefect_intelligent.policy.explain import explain
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.steering.decide import ControllerConfig, LimitBounds
from prefect_intelligent.steering.decision_record import Decision
from prefect_intelligent.steering.lookahead import LookAhead
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.history import switched_on
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from prefect_intelligent.twin.futures import SnapshotFutures
from prefect_intelligent.twin.spec import PoolSpec
from tests.bundles import random_bundle

RULE = parse_policy("edf+reactive")
LOOK = LookAhead(
    model=lambda snapshot: PoolSpec(queues=(QueueSetting(name="default", priority=1),), prices=snapshot.prices),
    config=PlannerConfig(budget_s=math.inf, most_futures=4),
)


class Wants:
    """Serves the calm queue first and gives the pool one slot."""

    name = "wants"

    def propose(self, census: Census) -> Proposal:
        shape = census.queues.shape[:-1]
        score = np.broadcast_to(np.array([1.0, 0.5, 0.0]), shape)
        return Proposal(score, np.full(shape, np.inf), np.ones(shape[:-1]))


@pytest.fixture
def pool() -> InMemoryOrchestrator:
    """Twenty urgent runs behind a calm queue, in a pool of four slots."""
    queues = [QueueSetting(name=name, priority=place) for place, name in enumerate(("calm", "default", "urgent"), 1)]
    made = InMemoryOrchestrator(queues, pool=PoolSetting(name="pool", limit=4))
    now_s = made.clock.now_s()
    for number in range(20):
        queue = "urgent" if number % 2 else "calm"
        made.submit(
            Run(
                id=f"r{number}",
                deployment=f"{queue}/d",
                queue=queue,
                phase=RunPhase.UPCOMING,
                scheduled_s=now_s,
                due_s=now_s + (600 if number % 2 else 36_000),
                late_usd_per_hour=60.0 if number % 2 else 0.1,
                estimate=Estimate(p50_s=200.0, p90_s=300.0),
            )
        )
    return made


def decide(pool: InMemoryOrchestrator, **more: object) -> Decision:
    given = {"policy": RULE, "rule": RULE, "guard": GuardSettings(interval_s=0.0), "pool_bounds": LimitBounds(most=16)}
    pool.clock.sleep(1.0)
    return reconcile(pool, switched_on("pool"), pool.clock, ControllerConfig(**(given | more)))  # type: ignore[arg-type]


def test_a_plan_that_the_twin_expects_to_be_clearly_worse_is_not_applied(pool: InMemoryOrchestrator) -> None:
    decision = decide(pool, policy=Wants(), look_ahead=LOOK)
    assert decision.foreseen is not None
    assert decision.foreseen["plan_usd"] > 1.05 * decision.foreseen["rule_usd"] > 0
    assert decision.foreseen["followed_rule"] == 1.0
    assert "the rule's plan was followed instead" in decision.reasons[0]
    assert decision.pool_limit is not None
    assert decision.pool_limit.wanted == 1  # what the policy wanted stays on the record
    assert decision.pool_limit.permitted == decision.pool_limit.rule != 1
    assert [(queue.permitted, queue.rule) for queue in decision.queues if queue.permitted != queue.rule] == []
    assert "foreseen" in decision.to_dict()


def test_without_a_look_ahead_it_would_be(pool: InMemoryOrchestrator) -> None:
    decision = decide(pool, policy=Wants())
    assert decision.foreseen is None
    assert decision.pool_limit is not None
    assert decision.pool_limit.permitted != decision.pool_limit.rule


def test_a_rule_is_not_asked_about(pool: InMemoryOrchestrator) -> None:
    decision = decide(pool, look_ahead=LOOK)
    assert (decision.foreseen, decision.reasons) == (None, ())


def test_what_moved_a_learned_plan_is_recorded_queue_by_queue(pool: InMemoryOrchestrator, tmp_path: Path) -> None:
    policy = read_bundle(random_bundle(tmp_path, 3, scale=1.0)).policy()
    decision = decide(pool, policy=policy, look_ahead=LOOK)
    corrections = explain(policy, take_census(pool.observe(), 16.0))
    assert corrections
    told = [reason for queue in decision.queues for reason in queue.reasons]
    told += decision.pool_limit.reasons if decision.pool_limit else []
    assert sum("hours of mean cost (" in reason for reason in told) == len(corrections)
    assert decision.reasons[0].startswith("the twin expects $")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": PlannerConfig(budget_s=0.0, round_futures=1)}, "no time to look ahead"),
        ({"ready": lambda: False}, "being compiled"),
        ({"model": lambda _: None}, "the look ahead failed"),
    ],
)
def test_without_an_answer_the_plan_is_followed_and_it_is_said(
    pool: InMemoryOrchestrator, change: dict[str, object], words: str
) -> None:
    decision = decide(pool, policy=Wants(), look_ahead=replace(LOOK, **change))  # type: ignore[arg-type]
    assert words in decision.reasons[0]
    assert decision.foreseen is None
    assert decision.pool_limit is not None
    assert decision.pool_limit.permitted != decision.pool_limit.rule


def test_the_budget_bounds_the_futures(pool: InMemoryOrchestrator) -> None:
    ticks = iter(np.arange(0.0, 100.0, 0.05))
    decision = decide(
        pool,
        policy=Wants(),
        look_ahead=replace(
            LOOK,
            config=PlannerConfig(budget_s=0.16, round_futures=1),
            stopwatch=lambda: float(next(ticks)),
        ),
    )
    assert decision.foreseen is not None
    assert decision.foreseen["futures"] == 3.0


def test_a_planner_chooses_what_the_twin_expects_to_be_best(pool: InMemoryOrchestrator) -> None:
    planner = Planner(inner=Wants(), base=RULE)
    decision = decide(pool, policy=planner, look_ahead=LOOK)
    assert decision.policy == "planner around wants"
    assert decision.foreseen is not None
    assert decision.foreseen["plans"] == len(planner.candidates)
    assert decision.foreseen["plan_usd"] <= decision.foreseen["rule_usd"]
    assert f"it is the best of {len(planner.candidates)} plans" in decision.reasons[0]
    assert decision.pool_limit is not None
    assert (decision.pool_limit.permitted or 0) > 4


def test_a_planner_looks_as_its_own_configuration_says_within_the_budget_of_the_controller(
    pool: InMemoryOrchestrator,
) -> None:
    own = PlannerConfig(round_futures=1, most_futures=2, horizon_s=1200.0)
    decision = decide(pool, policy=Planner(inner=RULE, base=RULE, config=own), look_ahead=LOOK)
    assert decision.foreseen is not None
    assert (decision.foreseen["futures"], decision.foreseen["horizon_s"]) == (2.0, 1200.0)


def test_no_future_has_more_slots_than_the_workers_carry(pool: InMemoryOrchestrator) -> None:
    snapshot = pool.observe()
    model = replace(LOOK.model(snapshot), most=2)
    futures = SnapshotFutures(
        snapshot=snapshot,
        model=model,
        guard=GuardSettings(),
        rng=np.random.default_rng(0),
        step_s=60.0,
        horizon_s=600.0,
    ).draw(3)
    assert futures.census[P.MOST].tolist() == [2, 2, 2]
    assert futures.census[P.LIMIT].tolist() == [2, 2, 2]


def test_figures_that_are_no_numbers_leave_the_rule_and_need_no_explanation(
    pool: InMemoryOrchestrator, tmp_path: Path
) -> None:
    policy = read_bundle(random_bundle(tmp_path / "sane", 3, scale=1.0)).policy()
    endless = read_bundle(random_bundle(tmp_path / "endless", 3, scale=1e18)).policy()  # its predictions overflow
    sane = take_census(pool.observe())
    spoilt = Census(sane.queues.copy(), sane.pool.copy())
    spoilt.queues[0, Q.HEAD_WAIT_S] = np.nan
    for which, census in ((policy, spoilt), (endless, sane)):
        assert explain(which, census) == ()
        wanted, rule = which.propose(census), which.base.propose(census)
        assert np.array_equal(wanted.limit, rule.limit)
        assert wanted.pool_limit == rule.pool_limit


def test_a_running_controller_takes_a_new_champion_over_after_its_shadow(
    pool: InMemoryOrchestrator, tmp_path: Path
) -> None:
    store = PolicyFiles(tmp_path / "store")
    policy = ChampionPolicy(store, RULE, shadow_decisions=2)
    history, config = (
        switched_on("pool"),
        ControllerConfig(policy=policy, rule=RULE, guard=GuardSettings(interval_s=0.0)),
    )

    def name() -> str:
        pool.clock.sleep(1.0)
        return reconcile(pool, history, pool.clock, config).policy

    assert name() == RULE.name
    first, second = (store.add(random_bundle(tmp_path / f"b{number}", number)) for number in (1, 2))
    store.set_alias(CHAMPION, first, why="test", at_s=0.0)
    assert name() == f"champion {first}"
    store.set_alias(CHAMPION, second, why="test", at_s=1.0)
    assert [name() for _ in range(3)] == [f"champion {first}"] * 2 + [f"champion {second}"]

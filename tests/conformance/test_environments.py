"""The environments keep the contracts of Gymnasium and stable-baselines3, and pay what the objective says."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from stable_baselines3.common.env_checker import check_env as check_sb3

import simulations  # noqa: F401  (registers)
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model.stacking import stack
from rl.simulators import spent_usd
from simulations.envs.batch import DEFAULT_BASE, Batch, BatchSettings
from simulations.envs.vector import PrefectClusterVecEnv
from simulations.family import Family
from simulations.scenario import load_scenario

HOUR = Family(queues=(1, 4), hours=1.0)
MINUTE = Regime(interval_s=60.0)


def make(n: int, seed: int = 0, **settings: Any) -> Batch:
    few = {"scenario": HOUR, "deck": 5, "regime": MINUTE}
    return Batch(n, BatchSettings(**{**few, **settings}), np.random.default_rng(seed))


def neutral(batch: Batch) -> np.ndarray:
    row = [NEUTRAL_CAPACITY, *[NEUTRAL_PLACE] * batch.width, *[NEUTRAL_SHARE] * batch.width]
    return np.tile(row, (batch.rows, 1))


def harmful(batch: Batch) -> np.ndarray:
    """Half of the slots that the rule wants, and every queue at most a quarter of them."""
    return np.tile([0, *[NEUTRAL_PLACE] * batch.width, *[0] * batch.width], (batch.rows, 1))


def play_day(batch: Batch, action: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the rewards of a whole day, and the cost ratio at its end."""
    batch.reset({"first": first})
    total = np.zeros(batch.n)
    for step in range(batch.deck.steps):
        reward, terminated, truncated = batch.step(action)
        total += reward
        assert not truncated.any()
        assert terminated.all() == (step == batch.deck.steps - 1)
    return total, batch.cost_ratio


@pytest.mark.parametrize("scenario", [HOUR, "toy", "two-pools-budget"], ids=["family", "toy", "two-pools-budget"])
def test_both_checkers_pass_without_a_warning(scenario: Any) -> None:
    env = gym.make("PrefectCluster-v0", scenario=scenario, deck=2, hold=30, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_gymnasium(env.unwrapped, skip_render_check=False)
        check_sb3(env.unwrapped)
    env.close()


@pytest.mark.parametrize("settings", [{}, {"hold": 5}, {"scenario": "two-pools-budget", "hold": 60, "deck": 2}])
def test_the_neutral_action_is_the_base_rule_and_earns_nothing(settings: dict[str, Any]) -> None:
    batch = make(4, **settings)
    batch.reset()
    for _ in range(batch.deck.steps + 3):
        reward, terminated, _ = batch.step(neutral(batch))
        np.testing.assert_allclose(reward, 0.0, atol=1e-9)
        batch.replace(terminated)


@pytest.mark.parametrize("hold", [1, 7])
def test_rewards_of_a_day_add_up_to_minus_the_logarithm_of_the_cost_ratio(hold: int) -> None:
    batch = make(5, hold=hold)
    total, ratio = play_day(batch, harmful(batch))
    assert (np.abs(ratio - 1.0) > 1e-3).any()
    np.testing.assert_allclose(total, -100 * np.log(ratio), atol=1e-6)


def test_cost_rewards_add_up_to_minus_the_cost_ratio() -> None:
    batch = make(5, reward="cost")
    total, ratio = play_day(batch, harmful(batch))
    costs = batch.deck.total_usd > 0  # a day may have no runs
    assert costs.sum() > 2
    np.testing.assert_allclose(total[costs], -100 * ratio[costs], atol=1e-6)
    assert not total[~costs].any()


@pytest.mark.parametrize("regime", [MINUTE, Regime(interval_s=120.0, pool_factor=4.0)], ids=["1x", "4x"])
def test_a_day_costs_what_evaluation_says_that_it_costs(regime: Regime) -> None:
    """Days without decisions after the last arrival: the closed loop of evaluation goes on for longer."""
    batch = make(5, regime=regime)
    play_day(batch, neutral(batch))
    over = batch.deck.spent_usd[:, -1] == batch.deck.total_usd
    assert over.any()
    spent = spent_usd(stack(list(batch.deck.worlds)), regime, parse_policy(DEFAULT_BASE))[0].sum(-1)
    np.testing.assert_allclose(batch.twin.money.sum(-1)[over], spent[over], rtol=1e-9)


def test_rows_play_the_worlds_of_the_deck_in_turn() -> None:
    batch = make(2)
    batch.reset({"first": 3})
    alone = [make(1) for _ in range(2)]
    for number, each in enumerate(alone):
        each.reset({"first": 3 + number})
    for row, each in enumerate(alone):
        np.testing.assert_array_equal(batch.observe().queues[row], each.observe().queues[0])
    batch.replace(np.array([False, True]))
    alone[1].reset({"first": 5})  # the deck has five worlds: it begins again
    np.testing.assert_array_equal(batch.observe().queues[1], alone[1].observe().queues[0])
    rewards = np.array([batch.step(harmful(batch))[0] for _ in range(20)])
    expected = np.array([[each.step(harmful(each))[0][0] for each in alone] for _ in range(20)])
    np.testing.assert_array_equal(rewards, expected)


def test_worlds_replaced_in_place_are_those_of_a_whole_reset() -> None:
    one, two = make(3), make(3)
    one.reset({"first": 0})
    for _ in range(10):
        one.step(harmful(one))
    for row in range(3):
        one.replace(np.arange(3) == row)
    two.reset({"first": 3})
    for _ in range(one.deck.steps):
        np.testing.assert_array_equal(one.observe().queues, two.observe().queues)
        np.testing.assert_array_equal(one.step(harmful(one))[0], two.step(harmful(two))[0])


def test_a_short_episode_is_truncated_and_its_day_does_not_run_out() -> None:
    batch = make(4, episode_share=(0.25, 0.5))
    batch.reset()
    lengths = np.zeros(4)
    while not lengths.all():
        _, terminated, truncated = batch.step(neutral(batch))
        assert not terminated.any()
        lengths[truncated & (lengths == 0)] = batch._step[truncated & (lengths == 0)]
        assert (batch.cost_ratio < 1.0).any()
    assert (lengths >= round(0.25 * batch.deck.steps)).all()
    assert (lengths <= round(0.5 * batch.deck.steps)).all()


def test_the_vector_environment_is_made_by_gymnasium_and_starts_anew_in_the_next_step() -> None:
    envs = gym.make_vec(
        "PrefectCluster-v0",
        num_envs=6,
        vectorization_mode="vector_entry_point",
        scenario=HOUR,
        deck=3,
        regime=MINUTE,
        episode_share=(0.2, 0.5),
    )
    envs.action_space.seed(1)
    seen, _ = envs.reset(seed=5)
    ends = 0
    for _ in range(80):
        seen, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert envs.observation_space.contains(seen)
        assert np.isfinite(reward).all()
        assert not (terminated & truncated).any()
        ends += int((terminated | truncated).sum())
    assert ends > 6
    envs.close()


def test_the_same_seed_deals_the_same_worlds_and_another_seed_others() -> None:
    runs = []
    for seed in (9, 9, 10):
        envs = gym.make_vec(
            "PrefectCluster-v0", num_envs=3, vectorization_mode="vector_entry_point", scenario=HOUR, deck=8
        )
        envs.action_space.seed(2)
        first, _ = envs.reset(seed=seed)
        rewards = [envs.step(envs.action_space.sample())[1] for _ in range(40)]
        runs.append((first["queues"].copy(), np.array(rewards)))
        envs.close()
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][0], runs[2][0])


def test_sb3_sees_the_last_observation_the_cost_and_why_an_episode_ended() -> None:
    envs = PrefectClusterVecEnv(4, seed=1, scenario=HOUR, deck=5, regime=MINUTE, episode_share=(0.3, 1.0))
    envs.reset()
    reasons = []
    for _ in range(3 * envs.steps_per_day):
        _, _, done, infos = envs.step(np.array([envs.action_space.sample() for _ in range(4)]))
        for row in np.flatnonzero(done):
            reasons.append(infos[row]["TimeLimit.truncated"])
            assert infos[row]["cost_ratio"] > 0
            assert envs.observation_space.contains(infos[row]["terminal_observation"])
    assert len(reasons) > 8


def test_sb3_sets_seed_and_options_for_the_next_reset_only() -> None:
    envs = PrefectClusterVecEnv(2, scenario=HOUR, deck=8, regime=MINUTE)
    envs.seed(3)
    envs.set_options({"first": 5})
    named = envs.reset()["pool"]
    envs.set_options({"first": 5})
    np.testing.assert_array_equal(named, envs.reset()["pool"])
    others = [envs.reset()["pool"] for _ in range(4)]
    assert any(not np.array_equal(named, other) for other in others)


def test_threads_do_not_change_what_happens() -> None:
    totals = []
    for threads in (1, 2):
        batch = make(6, threads=threads)
        totals.append(play_day(batch, harmful(batch))[0])
    np.testing.assert_array_equal(totals[0], totals[1])
    assert totals[0].any()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"split": "all"}, "known"),
        ({"scenario": "morning-rus"}, "morning-rush"),
        ({"deck": 0}, "1 or more"),
        ({"hold": 0}, "1 or more"),
        ({"base": "etf"}, "edf"),
        ({"reward": "profit"}, "saving"),
        ({"episode_share": (0.0, 1.0)}, "least"),
    ],
)
def test_bad_settings_are_named(wrong: dict, hint: str) -> None:
    with pytest.raises(PrefectIntelligentError, match=hint):
        Batch(1, BatchSettings(**wrong), np.random.default_rng(0))


def test_a_first_world_that_is_no_number_is_refused() -> None:
    with pytest.raises(PrefectIntelligentError, match="first"):
        make(1).reset({"first": "monday"})


def test_further_days_of_a_scenario_are_other_worlds() -> None:
    scenario = load_scenario("morning-rush")
    one, other = scenario.world(7), scenario.world(7, 1)
    assert not np.array_equal(one.runs["work_s"][0, :10], other.runs["work_s"][0, :10])


def test_both_renderings_show_the_queues() -> None:
    env = gym.make("PrefectCluster-v0", scenario="morning-rush", deck=1, render_mode="ansi")
    env.reset(seed=0)
    assert "pool 0" in env.render()
    picture = gym.make("PrefectCluster-v0", scenario="morning-rush", deck=1, hold=6, render_mode="rgb_array")
    picture.reset(seed=0)
    picture.action_space.seed(0)
    for _ in range(30):
        picture.step(picture.action_space.sample())
    frame = picture.render()
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 2

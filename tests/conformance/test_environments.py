"""The environments keep the contracts of Gymnasium and stable-baselines3."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from stable_baselines3.common.env_checker import check_env as check_sb3

import simulations  # noqa: F401  (registers)
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from simulations.envs.batch import Batch, BatchSettings
from simulations.envs.vector import PrefectClusterVecEnv
from simulations.family import Family

SMALL = {"deck": 3, "family": Family(queues=(1, 4), hours=1.0)}
FEW = BatchSettings(deck=5, family=Family(queues=(3, 3), hours=2.0))


@pytest.mark.parametrize("scenario", ["family", "toy", "two-pools-budget"])
def test_both_checkers_pass_without_a_warning(scenario: str) -> None:
    env = gym.make(
        "PrefectCluster-v0",
        scenario=scenario,
        render_mode="rgb_array",
        **(SMALL if scenario == "family" else {"deck": 2}),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_gymnasium(env.unwrapped, skip_render_check=False)
        check_sb3(env.unwrapped)
    env.close()


def neutral(batch: Batch) -> np.ndarray:
    row = [NEUTRAL_CAPACITY, *[NEUTRAL_PLACE] * batch.width, *[NEUTRAL_SHARE] * batch.width]
    return np.tile(row, (batch.rows, 1))


def test_the_neutral_action_is_the_base_rule_and_earns_nothing() -> None:
    batch = Batch(4, FEW, np.random.default_rng(3))
    batch.reset()
    for _ in range(20):
        reward, terminated, truncated = batch.step(neutral(batch))
        np.testing.assert_allclose(reward, 0.0, atol=1e-9)
        if (ended := terminated | truncated).any():
            batch.reset(ended)


def test_cost_rewards_add_up_to_minus_the_money() -> None:
    settings = BatchSettings(deck=2, family=Family(queues=(2, 2), hours=1.0), reward="cost", episode_share=(1.0, 1.0))
    batch = Batch(2, settings, np.random.default_rng(0))
    batch.reset()
    total = np.zeros(2)
    for _ in range(30):
        reward, _, _ = batch.step(neutral(batch))
        total += reward
    scale = batch.deck.scale_usd[batch._chosen]
    np.testing.assert_allclose(-total * scale, batch.twin.money.sum(axis=1), rtol=1e-9)


def test_the_vector_environment_is_made_by_gymnasium_and_starts_anew_in_the_next_step() -> None:
    envs = gym.make_vec("PrefectCluster-v0", num_envs=6, vectorization_mode="vector_entry_point", **SMALL)
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


def test_the_same_seed_deals_the_same_worlds() -> None:
    runs = []
    for _ in range(2):
        envs = gym.make_vec("PrefectCluster-v0", num_envs=3, vectorization_mode="vector_entry_point", **SMALL)
        envs.action_space.seed(2)
        first, _ = envs.reset(seed=9)
        rewards = [envs.step(envs.action_space.sample())[1] for _ in range(40)]
        runs.append((first["queues"].copy(), np.array(rewards)))
        envs.close()
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_sb3_sees_the_last_observation_and_why_an_episode_ended() -> None:
    envs = PrefectClusterVecEnv(4, seed=1, settings=FEW)
    envs.reset()
    told = 0
    for _ in range(140):
        _, _, done, infos = envs.step(np.array([envs.action_space.sample() for _ in range(4)]))
        for row in np.flatnonzero(done):
            told += 1
            assert "TimeLimit.truncated" in infos[row]
            assert envs.observation_space.contains(infos[row]["terminal_observation"])
    assert told > 4


def test_threads_do_not_change_what_happens() -> None:
    totals = []
    for threads in (1, 2):
        batch = Batch(6, BatchSettings(deck=5, family=Family(hours=1.0), threads=threads), np.random.default_rng(0))
        batch.reset()
        totals.append(np.array([batch.step(neutral(batch))[0] for _ in range(10)]))
        money = batch.twin.money.copy()
    np.testing.assert_array_equal(totals[0], totals[1])
    assert money.any()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"split": "all"}, "known"),
        ({"scenario": "morning-rus"}, "morning-rush"),
        ({"deck": 0}, "1 or more"),
        ({"base": "etf"}, "edf"),
    ],
)
def test_bad_settings_are_named(wrong: dict, hint: str) -> None:
    with pytest.raises(PrefectIntelligentError, match=hint):
        Batch(1, BatchSettings(**wrong), np.random.default_rng(0))


def test_both_renderings_show_the_queues() -> None:
    env = gym.make("PrefectCluster-v0", scenario="morning-rush", deck=1, render_mode="ansi")
    env.reset(seed=0)
    assert "pool 0" in env.render()
    picture = gym.make("PrefectCluster-v0", scenario="morning-rush", deck=1, render_mode="rgb_array")
    picture.reset(seed=0)
    picture.action_space.seed(0)
    for _ in range(30):
        picture.step(picture.action_space.sample())
    frame = picture.render()
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 2

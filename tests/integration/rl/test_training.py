"""Training learns, repeats itself to the bit, survives an interruption, and its result decides as NumPy does."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import gymnasium as gym
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy import RulePolicy
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES
from prefect_intelligent.policy.bundle import Bundle, read_bundle, write_bundle
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from rl import train as training
from rl.export import disagreements, export, sample
from rl.network import Actor
from rl.train import TrainConfig, make_model, schedule, train
from rl.worlds import TRAINING, Workload
from simulations.envs.deck import decisions_per_day
from simulations.envs.spaces import action_space, observation_space
from simulations.family import Family

SMALL = Workload(family=Family(hours=1.0, queues=(2, 3)))
BASE = RulePolicy(priority="edf", capacity="reactive", limits="share")


def start(folder: Path, width: int = 16, margin: float = 0.05) -> Bundle:
    torch.manual_seed(0)
    bundle = Bundle(name="start", base=BASE, weights=Actor(width).export(), margin=margin)
    write_bundle(bundle, folder)
    return bundle


class Toy(gym.Env[dict[str, Any], np.ndarray[Any, Any]]):
    """A toy whose optimum is known: twice the slots while the dial is above 0, half of them else; late queues first.

    A right pool level earns 1, a right place of the one queue 1; the optimum is 2 per decision.
    """

    observation_space, action_space = observation_space(1), action_space(1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: np.ndarray[Any, Any]) -> Any:
        capacity = len(CAPACITY_FACTORS) - 1 if self.dial > 0 else 0
        place = len(PLACES) - 1 if self.late > 0 else 1
        reward = float(action[0] == capacity) + float(action[1] == place)
        return self._observe(), reward, False, False, {}

    def _observe(self) -> dict[str, Any]:
        self.dial, self.late = self.np_random.choice([-1.0, 1.0]), self.np_random.choice([0.0, 1.0])
        seen = {name: np.zeros(space.shape, np.float32) for name, space in self.observation_space.items()}
        seen["pool"][POOL_FEATURES.index("dial")] = self.dial
        seen["queues"][QUEUE_FEATURES.index("late")] = self.late
        seen["mask"][:] = 1.0
        return seen


def test_ppo_reaches_the_known_optimum_of_a_toy_from_a_zero_start(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(
        minibatch=256, epochs=4, learning_rate=3e-3, clip=0.2, target_kl=0.1, gamma=0.0, temperature=0.05,
        queue_temperature=0.05,
    )  # fmt: skip
    toy = DummyVecEnv([Toy] * 64)
    model = make_model(config, toy, 16, start(tmp_path))
    earned = []
    for _ in range(60):
        schedule(model, config, 80)
        model.update()
        earned.append(float(model.rollout_buffer.rewards.mean()))
    assert earned[0] < 1.2
    toy.seed(10**6)
    seen, total = toy.reset(), 0.0
    for _ in range(20):
        seen, reward, _, _ = toy.step(model.predict(seen, deterministic=True)[0])
        total += float(reward.mean()) / 20
    assert total > 1.98


def config(folder: Path, out: str) -> TrainConfig:
    return TrainConfig(
        start=str(folder / "start"),
        out=str(folder / out),
        steps=3 * 8 * 72,
        envs=8,
        hold=6,
        batches=2,
        minibatch=48,
        critic_updates=1,
        validation_days=4,
        validate_every=2,
        learning_rate=1e-3,
    )


def final(folder: Path, out: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / out / "checkpoint.pt", weights_only=True)["policy"]
    return state


def test_same_seed_same_weights_and_resuming_gives_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path / "start")
    train(config(tmp_path, "one"), SMALL)
    train(config(tmp_path, "two"), SMALL)
    one, two = final(tmp_path, "one"), final(tmp_path, "two")
    assert all(torch.equal(one[name], two[name]) for name in one)

    save, saved = training.save_checkpoint, []

    def save_and_stop(*args: Any) -> None:
        save(*args)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, "three"), SMALL)
    monkeypatch.setattr(training, "save_checkpoint", save)
    train(config(tmp_path, "three"), SMALL, resume=True)
    three = final(tmp_path, "three")
    assert all(torch.equal(one[name], three[name]) for name in one)
    other = replace(config(tmp_path, "four"), seed=1)
    train(other, SMALL)
    assert not torch.equal(final(tmp_path, "four")["actor.pool_head.weight"], one["actor.pool_head.weight"])


def test_resuming_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "start")
    with pytest.raises(InvalidInputError, match=r"checkpoint\.pt"):
        train(config(tmp_path, "none"), SMALL, resume=True)


def test_export_agrees_or_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = start(tmp_path / "start", margin=0.02)
    rng = np.random.default_rng(0)
    weights = {
        name: array if name.endswith((".std", ".mean")) else rng.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in bundle.weights.items()
    }
    bundle = replace(bundle, weights=weights)
    write_bundle(bundle, tmp_path / "start")
    seen = sample(bundle, Workload().batch([(c, 0) for c in range(4)]), Regime(interval_s=60.0), 400)
    assert disagreements(bundle, seen) == 0
    export(tmp_path / "start", tmp_path / "out", samples=400)
    assert read_bundle(tmp_path / "out").provenance["agreed_on"] >= 400
    monkeypatch.setattr("rl.export.disagreements", lambda *_: 1)
    with pytest.raises(InvalidInputError, match="must agree"):
        export(tmp_path / "start", tmp_path / "other", samples=400)
    assert not (tmp_path / "other").exists()


def test_a_policy_of_few_queues_decides_for_many(tmp_path: Path) -> None:
    bundle = start(tmp_path / "start")
    days = Workload(family=Family(hours=1.0, queues=(24, 24))).batch([(1, 0), (2, 0)])
    policy, loop = bundle.policy(), ClosedLoop(Twin(days), Regime(interval_s=60.0))
    wanted = policy.propose(loop.census)
    assert wanted.score.shape == (2, 24)
    assert np.isfinite(loop.play(policy)).all()


@pytest.mark.parametrize("name", ["fine_tune.toml", "default.toml"])
def test_the_actor_learns_in_most_updates_of_the_given_configurations(name: str) -> None:
    settings = tomllib.loads((training.CONFIGS / name).read_text())["train"]
    config = TrainConfig.from_dict(settings)
    hours = 24.0 if name == "fine_tune.toml" else 8.0
    updates = config.steps // (config.envs * decisions_per_day(hours, TRAINING))
    assert updates > 4 * config.critic_updates

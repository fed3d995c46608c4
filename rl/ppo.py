"""The learner: stable-baselines3's PPO, each roll-out a whole day of every world of `PrefectCluster-v0`.

It differs from plain PPO in three ways: advantages are winsorised, actor and critic have learning rates of their own,
and every update restarts the environment and the random generators. So an update depends on the seed and on its number
alone, and a resumed training gives the same weights as one that was never interrupted.

With roll-outs shorter than a day, worlds in lockstep would teach the policy the hour of the day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from torch import Tensor

from prefect_intelligent.policy.encoding import Array32
from rl.network import LeverPolicy


class WinsorizedRolloutBuffer(DictRolloutBuffer):
    """A roll-out buffer that clips its advantages at two of their quantiles; returns stay as they are.

    Args:
        *args: Passed on to `DictRolloutBuffer`.
        winsor: Share of the advantages that is clipped at either end, 0 to 0.5.
        **kwargs: Passed on to `DictRolloutBuffer`.
    """

    def __init__(self, *args: Any, winsor: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.winsor = winsor

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray[Any, Any]) -> None:
        """Generalised advantage estimation, then the clipping."""
        super().compute_returns_and_advantage(last_values, dones)
        bounds = np.quantile(self.advantages, [self.winsor, 1.0 - self.winsor])
        np.clip(self.advantages, *bounds, out=self.advantages)


class TwoRateAdam(torch.optim.Adam):
    """Adam whose groups take their learning rate from "rate".

    stable-baselines3 writes one rate into the "lr" of all groups whenever it trains.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One gradient step at the rates of the groups."""
        for group in self.param_groups:
            group["lr"] = group["rate"]
        loss: float | None = super().step(closure)
        return loss


class DayPPO(PPO):
    """PPO whose roll-outs are whole days.

    Attributes:
        updates: Updates done, those before a resumption included.
        epochs: Passes over roll-outs, likewise; fewer than `updates * n_epochs` where `target_kl` stopped some.
        resumed_epochs: Those before the last resumption.
        average: Moving average of the actor over updates, arrays as in `Actor.export`.
        collect_s: Seconds that the last roll-out took.
        train_s: Seconds that the last gradient steps took.
    """

    policy: LeverPolicy
    average: dict[str, Array32]
    updates: int = 0
    epochs: int = 0
    resumed_epochs: int = 0
    collect_s: float = 0.0
    train_s: float = 0.0

    def set_rates(self, actor: float, critic: float) -> None:
        """Set the learning rates of the next update."""
        for group, rate in zip(self.policy.optimizer.param_groups, (actor, critic), strict=True):
            group["rate"] = rate

    def update(self) -> None:
        """Play the next worlds of the environment, as many as it has rows, and learn from them."""
        env = self.get_env()
        assert self.seed is not None
        assert env is not None
        torch.manual_seed(self.seed * 100_003 + self.updates)
        np.random.seed(self.updates % 2**31)  # noqa: NPY002 - the roll-out buffer shuffles with it
        env.seed(self.seed + self.updates)
        env.set_options({"first": self.updates * env.num_envs})
        self.set_env(env)  # so that `learn` resets it
        began = time.perf_counter()
        self.learn(
            self.n_steps * self.n_envs,
            log_interval=None,  # type: ignore[arg-type] # logs nothing
            reset_num_timesteps=False,
        )
        self.collect_s = time.perf_counter() - began - self.train_s
        self.updates += 1
        self.epochs = self.resumed_epochs + int(self.logger.name_to_value["train/n_updates"])
        self.logger.record("train/n_updates", self.epochs, exclude="tensorboard")
        self.logger.record("train/learning_rate", self.policy.optimizer.param_groups[0]["rate"])

    def train(self) -> None:
        """The gradient steps of an update, timed."""
        began = time.perf_counter()
        super().train()
        self.train_s = time.perf_counter() - began

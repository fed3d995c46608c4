"""The training environment: a batch of whole days, rewarded by what is saved against the base rule.

A stable-baselines3 `VecEnv` over the batched twin. `reset` begins a batch of days, all of them at other hours and in
other clusters; one roll-out of PPO is one such batch from its beginning to its end, because worlds in lockstep whose
roll-outs are shorter than a day teach a policy the hour instead of the task. The base rule's cost on the same days,
with the same random numbers, is played once and subtracted. Rewards are the steps of log(1 + excess), where the excess
is what has been spent beyond the base rule so far, as a share of the base rule's day. Over a day they add up to minus
the logarithm of our cost over the rule's, which is what policies are compared by; a lost day weighs as it does there,
without being clipped.

An action is held for several decisions, in which the rule goes on deciding and is corrected alike: what a correction of
two minutes changes drowns in what chance changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.encoding import QUEUE_FEATURES
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.model.world import World
from rl.arenas import open_arena
from rl.spaces import action_space, observation_space

REWARD_SCALE: Final = 100.0
"""Rewards are in per cent."""
MOST_SAVED: Final = -0.95
"""Excess over the base rule's cost, as a share of it, below which nothing more is gained."""


class Day:
    """A batch of worlds and what the base rule spends in them."""

    def __init__(self, world: World, base: RulePolicy, steps: int) -> None:
        self.world = world
        arena = open_arena(world, base)
        spent = [arena.twin.money.sum(-1)]
        for _ in range(steps):
            arena.follow()
            spent.append(arena.twin.money.sum(-1))
        self.spent_usd: Array = np.array(spent)  # (steps + 1, worlds)
        arena.twin.finish()
        self.total_usd: Array = np.maximum(arena.twin.money.sum(-1), 1e-6)


class Days(VecEnv):
    """Days as an environment for PPO.

    Args:
        days: Batches with the same number of worlds; `reset` goes through them. Those with fewer queues than others
            are seen with absent ones.
        base: The rule that actions correct.
        steps: Decisions per day.
        hold: Decisions for which an action is held.
    """

    def __init__(self, days: Sequence[Day], base: RulePolicy, steps: int, hold: int = 1) -> None:
        self.days, self.base, self.steps, self.hold = days, base, steps, hold
        self.number = 0
        n = max(day.world.width for day in days)
        if any(day.world.n_worlds != days[0].world.n_worlds for day in days):
            raise ValueError("batches of days need the same number of worlds")
        super().__init__(days[0].world.n_worlds, observation_space(n), action_space(n))
        self._actions = np.zeros((self.num_envs, 1 + 2 * n), dtype=np.int64)

    def reset(self) -> dict[str, np.ndarray[Any, Any]]:
        """Begin the batch `number`."""
        self._day = self.days[self.number % len(self.days)]
        self._arena = open_arena(self._day.world, self.base)
        self._step = 0
        self._level = np.zeros(self.num_envs)
        return self._observe()

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Take over the actions."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], list[dict[str, Any]]]:
        """One action in every world; all days are over after the same number."""
        arena = self._arena
        width, there = (self._actions.shape[1] - 1) // 2, arena.census.queues.shape[1]
        places, shares = self._actions[:, 1 : 1 + there], self._actions[:, 1 + width : 1 + width + there]
        levels = np.concatenate([self._actions[:, :1], places, shares], axis=1)
        until = min(self._step + self.hold, self.steps)
        for _ in range(self._step, until):
            arena.act(levels)
        over = until == self.steps
        if over:  # what is left runs out under the settings in force, as it did under the base rule
            arena.twin.finish()
            theirs = self._day.total_usd
        else:
            theirs = self._day.spent_usd[until]
        spent = arena.twin.money.sum(-1)
        excess = (spent - theirs) / self._day.total_usd
        level = np.log1p(np.maximum(excess, MOST_SAVED))
        reward = REWARD_SCALE * (self._level - level)
        self._level, self._step = level, until
        done = np.full(self.num_envs, over)
        return self._observe(), reward.astype(np.float32), done, [{} for _ in range(self.num_envs)]

    def _observe(self) -> dict[str, np.ndarray[Any, Any]]:
        seen = self._arena.observation  # a view, and the learner keeps the last observation while the worlds go on
        worlds, there = seen.mask.shape
        n = (self._actions.shape[1] - 1) // 2
        queues = np.zeros((worlds, n, len(QUEUE_FEATURES)), dtype=np.float32)
        mask = np.zeros((worlds, n), dtype=np.float32)
        queues[:, :there], mask[:, :there] = seen.queues, seen.mask
        return {"queues": queues, "pool": seen.pool.copy(), "mask": mask}

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same attribute for every world."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not offered: the worlds of a batch are not separate objects."""
        raise NotImplementedError(method_name)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never wrapped."""
        return [False] * self.num_envs

"""The training environment: a batch of whole days, rewarded by what is saved against the base rule.

A stable-baselines3 `VecEnv` over the batched twin. `reset` begins a batch of days, each at another hour and in another
cluster. One roll-out of PPO is one batch from beginning to end: with roll-outs shorter than a day, worlds in lockstep
would teach the policy the hour of the day.

The base rule plays the same days once, with the same random numbers. The excess is what has been spent beyond the rule
so far, as a share of the rule's cost of the whole day. Rewards are minus the increments of log(1 + excess), so over a
day they add up to minus the logarithm of the cost ratio, the number that policies are compared by; they are not
clipped.

An action is held for several decisions. In each of them the rule decides anew and the same correction is applied: the
effect of a correction of two minutes is small against the noise.
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
from rl.simulators import start_closed_loop
from rl.spaces import action_space, observation_space

REWARD_SCALE: Final = 100.0
"""Rewards are in per cent."""
MOST_SAVED: Final = -0.95
"""Least excess that is counted, so that its logarithm exists."""


class DayBatch:
    """A batch of worlds, and what the base rule spends in them.

    Attributes:
        world: The worlds.
        spent_usd: Cost so far after each decision, shape (steps + 1, worlds), US dollars.
        total_usd: Cost of the whole day, shape (worlds,), at least a millionth of a dollar.
    """

    def __init__(self, world: World, base: RulePolicy, steps: int) -> None:
        self.world = world
        loop = start_closed_loop(world, base)
        spent = [loop.twin.money.sum(-1)]
        for _ in range(steps):
            loop.follow()
            spent.append(loop.twin.money.sum(-1))
        self.spent_usd: Array = np.array(spent)
        loop.twin.finish()
        self.total_usd: Array = np.maximum(loop.twin.money.sum(-1), 1e-6)


class TrainingEnv(VecEnv):
    """Days as an environment for PPO.

    Args:
        days: Batches with the same number of worlds; `reset` takes them in turn. Missing queues of narrower batches
            are masked.
        base: The rule that actions correct.
        steps: Decisions per day.
        hold: Decisions for which an action is held.
    """

    def __init__(self, days: Sequence[DayBatch], base: RulePolicy, steps: int, hold: int = 1) -> None:
        self.days, self.base, self.steps, self.hold = days, base, steps, hold
        self.number = 0
        n = max(day.world.width for day in days)
        if any(day.world.n_worlds != days[0].world.n_worlds for day in days):
            raise ValueError("batches of days need the same number of worlds")
        super().__init__(days[0].world.n_worlds, observation_space(n), action_space(n))
        self._actions = np.zeros((self.num_envs, 1 + 2 * n), dtype=np.int64)

    def reset(self) -> dict[str, np.ndarray[Any, Any]]:
        """Begin batch `number` (modulo how many there are)."""
        self._batch = self.days[self.number % len(self.days)]
        self._loop = start_closed_loop(self._batch.world, self.base)
        self._step = 0
        self._log_excess = np.zeros(self.num_envs)
        return self._observe()

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], list[dict[str, Any]]]:
        """Hold the actions for `hold` decisions; all days of a batch end together."""
        loop = self._loop
        width, present = (self._actions.shape[1] - 1) // 2, loop.census.queues.shape[1]
        places, shares = self._actions[:, 1 : 1 + present], self._actions[:, 1 + width : 1 + width + present]
        levels = np.concatenate([self._actions[:, :1], places, shares], axis=1)
        until = min(self._step + self.hold, self.steps)
        for _ in range(self._step, until):
            loop.act(levels)
        over = until == self.steps
        if over:  # the rest of the day passes without decisions, as it did under the base rule
            loop.twin.finish()
            base_usd = self._batch.total_usd
        else:
            base_usd = self._batch.spent_usd[until]
        spent = loop.twin.money.sum(-1)
        excess = (spent - base_usd) / self._batch.total_usd
        log_excess = np.log1p(np.maximum(excess, MOST_SAVED))
        reward = REWARD_SCALE * (self._log_excess - log_excess)
        self._log_excess, self._step = log_excess, until
        done = np.full(self.num_envs, over)
        return self._observe(), reward.astype(np.float32), done, [{} for _ in range(self.num_envs)]

    def _observe(self) -> dict[str, np.ndarray[Any, Any]]:
        seen = self._loop.observation  # a view that the next decision overwrites; the learner keeps the last one
        worlds, present = seen.mask.shape
        n = (self._actions.shape[1] - 1) // 2
        queues = np.zeros((worlds, n, len(QUEUE_FEATURES)), dtype=np.float32)
        mask = np.zeros((worlds, n), dtype=np.float32)
        queues[:, :present], mask[:, :present] = seen.queues, seen.mask
        return {"queues": queues, "pool": seen.pool.copy(), "mask": mask}

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same attribute for every world."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Always raises `NotImplementedError`: the worlds of a batch are not separate objects."""
        raise NotImplementedError(method_name)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No world is wrapped."""
        return [False] * self.num_envs

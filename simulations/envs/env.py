"""`PrefectCluster-v0`: one simulated work pool as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from simulations.envs.batch import Batch, BatchSettings
from simulations.envs.spaces import Arrays, action_space, as_dict, observation_space
from simulations.render import draw_frame, draw_text


class PrefectCluster(gym.Env[Arrays, npt.NDArray[np.int64]]):
    """A day of a work pool, in which a base rule sets queue order, queue limits and pool limit, and actions correct it.

    The environment that `rl.train` trains in, for one world; `simulations.envs.vector` has many at once.

    Observation: a Dict of three flat float32 rows, made by the encoder that a live controller uses. "queues" has the
    features of every queue (`policy.encoding.QUEUE_FEATURES`), queue by queue; "pool" those of the pool
    (`POOL_FEATURES`); "mask" is 1 for queues that exist. With several pools, those of one stand after those of another.

    Action: MultiDiscrete, for each pool a factor on the rule's pool limit, then for every queue a place (last, as the
    rule has it, first) and the largest share of the pool that it may hold; see `policy.actions`. The neutral level of
    each changes nothing: chosen everywhere, they are the rule, and earn exactly 0.

    Reward: in per cent, minus the increment of log(1 + excess). Excess is what has been spent beyond the base rule by
    the same decision of the same world, over what the rule spends in the whole day. Over a day rewards add up to minus
    the logarithm of the ratio of the two costs: 5 is a day that costs 5 % less. `reward="cost"` gives minus our cost.

    Ends: `terminated` after the last decision of the day, whose rest then runs out without decisions and is part of the
    last reward (its observation is that of the last decision). `truncated` only if `episode_share` is below 1.

    Args:
        render_mode: "rgb_array", "ansi" or None.
        settings: Passed on to `simulations.envs.batch.BatchSettings`, which describes them; `deck` is 8 if not given.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InvalidInputError("render_mode", render_mode, "must be 'rgb_array', 'ansi' or None")
        self.render_mode = render_mode
        self._batch = Batch(1, BatchSettings(**{"deck": 8, **settings}), np.random.default_rng(0))
        shape = self._batch.width, self._batch.pools
        self.observation_space = cast("gym.Space[Arrays]", observation_space(*shape))
        self.action_space = action_space(*shape)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin another world; `options` may name it, see `Batch.reset`."""
        super().reset(seed=seed)
        self._batch.rng = self.np_random
        self._batch.reset(options)
        return self._seen(), self._info()

    def step(self, action: npt.NDArray[np.int64]) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Hold an action for `hold` decisions."""
        reward, terminated, truncated = self._batch.step(action)
        return self._seen(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def render(self) -> Any:
        """The queues, slots and deadlines as a picture or as text."""
        if self.render_mode == "ansi":
            return draw_text(self._batch.twin)
        if self.render_mode == "rgb_array":
            return draw_frame(self._batch.twin)
        gym.logger.warn("render() without a render_mode does nothing: make the environment with one")
        return None

    def _seen(self) -> Arrays:
        return {name: values[0] for name, values in as_dict(self._batch.observe(), 1).items()}

    def _info(self) -> dict[str, Any]:
        capacity, lateness, failure = self._batch.twin.money[0]
        money = {"capacity_usd": float(capacity), "lateness_usd": float(lateness), "failure_usd": float(failure)}
        return {**money, "cost_ratio": float(self._batch.cost_ratio[0])}

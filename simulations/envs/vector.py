"""Many worlds of `PrefectCluster-v0` as a Gymnasium `VectorEnv` and as a stable-baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from simulations.envs.batch import Batch, BatchSettings
from simulations.envs.spaces import Arrays, action_space, as_dict, observation_space


class VectorPrefectCluster(VectorEnv[Arrays, npt.NDArray[Any], npt.NDArray[Any]]):
    """N worlds stepped in one call; an ended one is reset by the next step (`AutoresetMode.NEXT_STEP`).

    Observation, action, reward and ends of each world are those of `simulations.envs.env.PrefectCluster`.

    Args:
        num_envs: Number of worlds.
        render_mode: Must be None: render a scalar environment instead.
        settings: Passed on to `BatchSettings`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **settings: Any) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self._batch = Batch(num_envs, BatchSettings(**settings), np.random.default_rng(0))
        shape = self._batch.width, self._batch.pools
        self.single_observation_space, self.single_action_space = observation_space(*shape), action_space(*shape)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin other worlds in all rows; of a list of seeds the first is used. For options see `Batch.reset`."""
        first = seed[0] if isinstance(seed, Sequence) else seed
        if first is not None:
            self._batch.rng = np.random.default_rng(first)
        self._ended[:] = False
        return as_dict(self._batch.reset(options), self.num_envs), {}

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[Arrays, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Hold an action for `hold` decisions in every world."""
        reset = self._ended
        reward, terminated, truncated = self._batch.step(actions)
        self._batch.replace(reset)
        reward[reset], terminated[reset], truncated[reset] = 0.0, False, False
        self._ended = terminated | truncated
        return as_dict(self._batch.observe(), self.num_envs), reward, terminated, truncated, {}


class PrefectClusterVecEnv(VecEnv):
    """N worlds for stable-baselines3: ended ones are reset at once.

    Observation, action, reward and ends of each world are those of `simulations.envs.env.PrefectCluster`. The infos of
    an ended world hold its last observation, whether it was truncated, and its `cost_ratio`: what was spent over what
    the base rule spends in the whole day. `seed` and `set_options` hold for the next `reset`; of the options of all
    worlds those of the first are used.

    Args:
        num_envs: Number of worlds.
        seed: Of the choice of worlds, until `seed` gives another.
        settings: Passed on to `BatchSettings`.

    Attributes:
        steps_per_day: Steps of a whole day.
    """

    def __init__(self, num_envs: int, seed: int = 0, **settings: Any) -> None:
        self._batch = Batch(num_envs, BatchSettings(**settings), np.random.default_rng(seed))
        self.steps_per_day, self.render_mode = self._batch.deck.steps, None
        shape = self._batch.width, self._batch.pools
        super().__init__(num_envs, observation_space(*shape), action_space(*shape))

    def reset(self) -> Any:
        """Begin other worlds in all rows."""
        if self._seeds[0] is not None:
            self._batch.rng = np.random.default_rng(self._seeds[0])
        seen = as_dict(self._batch.reset(self._options[0]), self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return seen

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Hold the actions for `hold` decisions in every world."""
        reward, terminated, truncated = self._batch.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        seen = as_dict(self._batch.observe(), self.num_envs)
        if ended.any():
            ratio = self._batch.cost_ratio
            for row in np.flatnonzero(ended):
                infos[row]["terminal_observation"] = {name: values[row] for name, values in seen.items()}
                infos[row]["TimeLimit.truncated"] = bool(truncated[row])
                infos[row]["cost_ratio"] = float(ratio[row])
            seen = as_dict(self._batch.replace(ended), self.num_envs)
        return seen, reward.astype(np.float32), ended, infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of this object, once per world."""
        return [getattr(self, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute; the worlds share them all."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not offered: the worlds are no objects.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(f"the worlds of a batch have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """No world is wrapped."""
        return [False] * len(self._rows(indices))

    def _rows(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()

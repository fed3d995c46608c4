"""The batch as a Gymnasium `VectorEnv` and as a stable-baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from prefect_intelligent.policy.encoding import Observation
from simulations.envs.batch import Batch, BatchSettings
from simulations.envs.spaces import action_space, as_dict, as_levels, observation_space

Arrays = dict[str, npt.NDArray[Any]]


class VectorPrefectCluster(VectorEnv[Arrays, npt.NDArray[Any], npt.NDArray[Any]]):
    """N worlds stepped in one call; an ended one is reset by the next step (`AutoresetMode.NEXT_STEP`).

    Args:
        num_envs: Number of worlds.
        render_mode: Must be None: render a scalar environment instead.
        settings: Passed on to `BatchSettings`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **settings: Any) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self._settings = BatchSettings(**settings)
        self._batch = Batch(num_envs, self._settings, np.random.default_rng(0))
        self.single_observation_space = observation_space(self._batch)
        self.single_action_space = action_space(self._batch)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin other worlds in all rows; of a list of seeds the first is used."""
        first = seed[0] if isinstance(seed, Sequence) else seed
        if first is not None:
            self._batch.rng = np.random.default_rng(first)
        self._ended[:] = False
        return as_dict(self._batch, self._batch.reset()), {}

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[Arrays, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """One decision interval of every world."""
        reset = self._ended
        reward, terminated, truncated = self._batch.step(as_levels(self._batch, actions))
        if reset.any():
            self._batch.reset(reset)
            reward[reset], terminated[reset], truncated[reset] = 0.0, False, False
        self._ended = terminated | truncated
        return as_dict(self._batch, self._batch.observe()), reward, terminated, truncated, {}


class PrefectClusterVecEnv(VecEnv):
    """N worlds for stable-baselines3: ended ones are reset at once; infos hold their last observation.

    Args:
        num_envs: Number of worlds.
        seed: Of the choice of worlds.
        settings: How worlds are made.
    """

    def __init__(self, num_envs: int, seed: int = 0, settings: BatchSettings | None = None) -> None:
        self.batch = Batch(num_envs, settings or BatchSettings(), np.random.default_rng(seed))
        self.render_mode = None
        super().__init__(num_envs, observation_space(self.batch), action_space(self.batch))
        self._actions: npt.NDArray[Any] = np.zeros((num_envs, 1), dtype=np.int64)

    def reset(self) -> Any:
        """Begin other worlds in all rows."""
        return as_dict(self.batch, self.batch.reset())

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """One decision interval of every world."""
        reward, terminated, truncated = self.batch.step(as_levels(self.batch, self._actions))
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            last = as_dict(self.batch, self.batch.observe())
            for row in np.flatnonzero(ended):
                infos[row]["terminal_observation"] = {name: values[row].copy() for name, values in last.items()}
                infos[row]["TimeLimit.truncated"] = bool(truncated[row])
            seen: Observation = self.batch.reset(ended)
        else:
            seen = self.batch.observe()
        return as_dict(self.batch, seen), reward.astype(np.float32), ended, infos

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

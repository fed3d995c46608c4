"""`PrefectCluster-v0`: one simulated work pool as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from simulations.envs.batch import Batch, BatchSettings
from simulations.envs.spaces import action_space, as_dict, as_levels, observation_space
from simulations.render import draw_frame, draw_text


class PrefectCluster(gym.Env[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]):
    """A pool whose queue order, queue limits and pool limit are corrected once per decision interval.

    Args:
        render_mode: "rgb_array", "ansi" or None.
        settings: Passed on to `BatchSettings`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InvalidInputError("render_mode", render_mode, "must be 'rgb_array', 'ansi' or None")
        self.render_mode = render_mode
        self._batch = Batch(1, BatchSettings(**{"deck": 8, **settings}), np.random.default_rng(0))
        self.observation_space = cast("gym.Space[dict[str, npt.NDArray[Any]]]", observation_space(self._batch))
        self.action_space = action_space(self._batch)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Begin another world."""
        super().reset(seed=seed)
        self._batch.rng = self.np_random
        return self._seen(self._batch.reset()), self._info()

    def step(
        self, action: npt.NDArray[np.int64]
    ) -> tuple[dict[str, npt.NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One decision interval."""
        reward, terminated, truncated = self._batch.step(as_levels(self._batch, action))
        seen = self._seen(self._batch.observe())
        return seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def render(self) -> Any:
        """The queues, slots and deadlines as a picture or as text."""
        if self.render_mode == "ansi":
            return draw_text(self._batch.twin)
        if self.render_mode == "rgb_array":
            return draw_frame(self._batch.twin)
        gym.logger.warn("render() without a render_mode does nothing: make the environment with one")
        return None

    def _seen(self, observation: Any) -> dict[str, npt.NDArray[Any]]:
        return {name: values[0] for name, values in as_dict(self._batch, observation).items()}

    def _info(self) -> dict[str, Any]:
        capacity, lateness, failure = self._batch.twin.money[0]
        return {"capacity_usd": float(capacity), "lateness_usd": float(lateness), "failure_usd": float(failure)}

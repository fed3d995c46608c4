"""The policy network, run with NumPy alone.

One small network for any number of queues: every queue passes through the same encoder, the pool is summarised by the
mean and the maximum over its queues, and two heads predict what each level of `actions` would save against the base
rule: one for the pool, one shared by all queues. Permuting the queues permutes the predictions; absent queues have no
influence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.actions import (
    CAPACITY_FACTORS,
    NEUTRAL_CAPACITY,
    NEUTRAL_PLACE,
    NEUTRAL_SHARE,
    PLACES,
    SHARES,
    Levels,
)
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Array32, Observation

CLIP: Final = 8.0
"""Normalised features are clipped at this number of standard deviations."""

N_CAPACITY: Final = len(CAPACITY_FACTORS)
N_PLACES: Final = len(PLACES)
N_SHARES: Final = len(SHARES)


class Gains(NamedTuple):
    """Predicted saving of each level against the base rule, in the unit the network was trained in; neutral is 0.

    Attributes:
        capacity: Shape (..., N_CAPACITY).
        place: Shape (..., n_queues, N_PLACES).
        share: Shape (..., n_queues, N_SHARES).
    """

    capacity: Array32
    place: Array32
    share: Array32


def weight_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network whose layers are `width` wide, by name."""
    seen = len(QUEUE_FEATURES) + len(POOL_FEATURES)
    layers = {
        "encoder_1": (seen, width),
        "encoder_2": (width, width),
        "trunk": (2 * width + len(POOL_FEATURES), width),
        "pool_head": (width, N_CAPACITY),
        "queue_1": (2 * width, width),
        "queue_head": (width, N_PLACES + N_SHARES),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs) in layers.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (inputs, outputs), (outputs,)
    for kind, size in (("queues", len(QUEUE_FEATURES)), ("pool", len(POOL_FEATURES))):
        shapes[f"{kind}.mean"] = shapes[f"{kind}.std"] = (size,)
    return shapes


class Network:
    """The forward pass.

    Args:
        weights: Arrays by name, see `weight_shapes`; converted to float32.

    Raises:
        InvalidInputError: An array is missing, has the wrong shape or holds a number that is not finite.
    """

    def __init__(self, weights: Mapping[str, Array32]) -> None:
        if "encoder_1.bias" not in weights or weights["encoder_1.bias"].ndim != 1:
            raise InvalidInputError("weights", sorted(weights), "encoder_1.bias is missing; export the policy again")
        shapes = weight_shapes(len(weights["encoder_1.bias"]))
        if set(shapes) != set(weights):
            raise InvalidInputError("weights", sorted(set(shapes) ^ set(weights)), "arrays are missing or unknown")
        for name, shape in shapes.items():
            if weights[name].shape != shape:
                raise InvalidInputError(f"weights {name}", weights[name].shape, f"must have the shape {shape}")
            if not np.isfinite(weights[name]).all():
                raise InvalidInputError(f"weights {name}", "a number that is not finite", "export the policy again")
        self.weights = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in weights.items()}

    def gains(self, seen: Observation) -> Gains:
        """The predicted saving of every level."""
        w = self.weights
        queues = np.clip((seen.queues - w["queues.mean"]) / w["queues.std"], -CLIP, CLIP)
        pool = np.clip((seen.pool - w["pool.mean"]) / w["pool.std"], -CLIP, CLIP)
        present = seen.mask[..., None]

        # the first layer takes [queue, pool]; the pool's part is the same for all queues
        split = len(QUEUE_FEATURES)
        first = w["encoder_1.weight"]
        shared = pool @ first[split:] + w["encoder_1.bias"]
        hidden = _relu(queues @ first[:split] + shared[..., None, :])
        hidden = _relu(hidden @ w["encoder_2.weight"] + w["encoder_2.bias"]) * present
        count = np.maximum(present.sum(-2), 1).astype(np.float32)
        summary = np.concatenate([hidden.sum(-2) / count, hidden.max(-2), pool], axis=-1)
        trunk = _relu(summary @ w["trunk.weight"] + w["trunk.bias"])

        capacity = trunk @ w["pool_head.weight"] + w["pool_head.bias"]
        width = trunk.shape[-1]
        second = w["queue_1.weight"]
        context = trunk @ second[width:] + w["queue_1.bias"]
        local = _relu(hidden @ second[:width] + context[..., None, :])
        per_queue = local @ w["queue_head.weight"] + w["queue_head.bias"]
        place, share = per_queue[..., :N_PLACES], per_queue[..., N_PLACES:]
        return Gains(
            capacity - capacity[..., NEUTRAL_CAPACITY, None],
            (place - place[..., NEUTRAL_PLACE, None]) * present,
            (share - share[..., NEUTRAL_SHARE, None]) * present,
        )


def choose(gains: Gains, margin: float) -> Levels:
    """For every action the level with the largest predicted saving; neutral unless it saves more than `margin`."""
    chosen = []
    for gain, default in zip(gains, (NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE), strict=True):
        best = gain.argmax(-1)
        worth = np.take_along_axis(gain, best[..., None], axis=-1)[..., 0] > margin
        chosen.append(np.where(worth, best, default))
    return Levels(*chosen)


def _relu(values: Array32) -> Array32:
    return np.maximum(values, np.float32(0.0))

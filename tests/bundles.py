"""Bundles whose weights are random: policies that are well-formed and no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prefect_intelligent.policy import RulePolicy
from prefect_intelligent.policy.bundle import Bundle, write_bundle
from prefect_intelligent.policy.network import weight_shapes


def random_bundle(folder: Path, seed: int, scale: float = 0.3, margin: float = 0.0) -> Path:
    """Write a bundle with weights of a seed and return its folder."""
    rng = np.random.default_rng(seed)
    weights = {
        name: (np.ones(shape) if name.endswith(".std") else rng.normal(0, scale, shape)).astype(np.float32)
        for name, shape in weight_shapes(8).items()
    }
    base = RulePolicy(priority="edf", capacity="reactive")
    write_bundle(Bundle(name=f"bundle-{seed}", base=base, weights=weights, margin=margin), folder)
    return folder

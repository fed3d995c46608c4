"""Simulated work pools to train and test on; registers `PrefectCluster-v0` with Gymnasium where that is installed."""

from importlib.util import find_spec

if find_spec("gymnasium") is not None:
    from gymnasium.envs.registration import register, registry

    if "PrefectCluster-v0" not in registry:
        register(
            id="PrefectCluster-v0",
            entry_point="simulations.envs.env:PrefectCluster",
            vector_entry_point="simulations.envs.vector:VectorPrefectCluster",
        )

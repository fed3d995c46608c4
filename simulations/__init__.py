"""Simulated work pools: scenarios drawn as worlds of the twin, played, rendered, calibrated and validated.

Importing it registers `PrefectCluster-v0` with Gymnasium where that is installed.

Read first:
    workload.py  a scenario and the world that a seed draws from it
    play.py      a policy decides in a batch of worlds behind the guard; metrics.py measures the episodes
    family.py    the randomised family of clusters, and the splits of seeds

Ports: none; worlds are played by `prefect_intelligent.twin.closed_loop.ClosedLoop`
Command: `python -m simulations.run`
How-to: docs/how-to/calibrate-your-pool.md
"""

from importlib.util import find_spec

if find_spec("gymnasium") is not None:
    from gymnasium.envs.registration import register, registry

    if "PrefectCluster-v0" not in registry:
        register(
            id="PrefectCluster-v0",
            entry_point="simulations.envs.env:PrefectCluster",
            vector_entry_point="simulations.envs.vector:VectorPrefectCluster",
        )

"""Which slots of global and tag limits the runs of a deployment occupy."""

from __future__ import annotations

from typing import Final

from prefect_intelligent.twin.spec import ResourceSpec
from simulations.calibration.observed import Observed

_USUAL: Final = 0.5
"""Share of a deployment's runs that have to occupy a limit."""


def fit_occupied(observed: Observed) -> tuple[dict[str, tuple[str, ...]], tuple[ResourceSpec, ...]]:
    """Limits as resources: those of each deployment, named once for every slot that a run holds, and all of them.

    A run that takes slots of a limit several times holds as many as it has taken at most at once; the twin has it hold
    them for as long as it works. A resource is as large as its limit was at last; beyond that, runs share its speed
    as they would share its slots by taking turns.
    """
    taken = observed.occupied.astype({"slots": float, "limit": float})
    begun = observed.passages[observed.passages["state"] == "RUNNING"].drop_duplicates("run_id")
    deployment_of = begun.set_index("run_id")["deployment"]
    taken = taken.assign(deployment=taken["run_id"].map(deployment_of)).dropna(subset=["deployment"])
    counts = begun["deployment"].astype(str).value_counts()
    found: dict[str, list[str]] = {}
    kept: dict[str, float] = {}
    for (deployment, name), own in taken.groupby(["deployment", "name"], sort=True):
        most = own.groupby("run_id")["slots"].max()
        if len(most) >= _USUAL * counts[str(deployment)] and own["limit"].iloc[-1] > 0:
            found.setdefault(str(deployment), []).extend([str(name)] * max(1, round(float(most.median()))))
            kept[str(name)] = float(own["limit"].iloc[-1])
    resources = tuple(ResourceSpec(name=name, capacity=capacity) for name, capacity in sorted(kept.items()))
    return {name: tuple(names) for name, names in found.items()}, resources

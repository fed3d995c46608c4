"""Holds deployments while a dataset they read is bad, releases them, and retries flow runs.

Prefect can pause the schedule of a deployment, but that drops its scheduled runs and does not stop ad-hoc ones. A hold
gives the deployment a concurrency limit without a free slot instead: every new run waits as `AwaitingConcurrencySlot`
and none is lost. The previous limit is saved in a Prefect variable (see `prefect_client.deployment_patches`).
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.states import AwaitingRetry

from prefect_intelligent.prefect_client.deployment_patches import HELD as LIMIT
from prefect_intelligent.prefect_client.deployment_patches import (
    apply_patch,
    get_or_none,
    open_api,
    patch_variables,
    read_patches,
    revert_patch,
)

__all__ = ["LIMIT", "PrefectDownstream"]


class PrefectDownstream:
    """`Downstream` on the Prefect API of this process's settings."""

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments from starting runs; unknown deployments are ignored.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with open_api() as api:
            return apply_patch(api, dataset, deployments, "hold", 0)

    def release(self, dataset: str) -> tuple[str, ...]:
        """Restore the limits of the deployments that nothing else holds.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with open_api() as api:
            return tuple(name for name, _, _ in revert_patch(api, dataset))

    def held(self) -> dict[str, tuple[str, ...]]:
        """Each held deployment, and the datasets or measures that hold it."""
        with open_api() as api:
            found = {kept["name"]: kept["claims"] for kept in map(read_patches, patch_variables(api))}
        held = {name: tuple(k for k, (kind, _) in claims.items() if kind == "hold") for name, claims in found.items()}
        return {name: keys for name, keys in held.items() if keys}

    def retry(self, run_id: str) -> bool:
        """Schedule a finished flow run again; False if it does not exist or belongs to no deployment."""
        with open_api() as api:
            found = get_or_none(api, f"/flow_runs/{run_id}")
            if found is None or found.get("deployment_id") is None:
                return False
            state = AwaitingRetry().model_dump(mode="json", include={"type", "name", "message", "state_details"})
            body = {"state": state, "force": True}
            answer = api.call("POST", f"/flow_runs/{run_id}/set_state", body)
            return bool(answer["status"] == "ACCEPT")

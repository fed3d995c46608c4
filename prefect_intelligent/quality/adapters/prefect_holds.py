"""Holds deployments while a dataset they read is bad, releases them, and runs flow runs again.

Prefect can pause the schedule of a deployment, but that drops its scheduled runs and does not stop ad-hoc ones. A hold
gives the deployment a concurrency limit that has no free slot instead: every new run waits as `AwaitingConcurrencySlot`
and nothing is lost. What the deployment had before stands in a Prefect variable (see `prefect_claims`).
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect.states import AwaitingRetry

from prefect_intelligent.prefect_client.deployment_patches import HELD as LIMIT
from prefect_intelligent.prefect_client.deployment_patches import (
    apply_patch,
    content,
    found_at,
    opened,
    revert_patch,
    variables,
)

__all__ = ["LIMIT", "PrefectDownstream"]


class PrefectDownstream:
    """`Downstream` on the Prefect API that the settings of this process name."""

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments from starting runs; those that do not exist are left out.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with opened() as api:
            return apply_patch(api, dataset, deployments, "hold", 0)

    def release(self, dataset: str) -> tuple[str, ...]:
        """Give the deployments back what they had, unless something else still holds them.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with opened() as api:
            return tuple(name for name, _, _ in revert_patch(api, dataset))

    def held(self) -> dict[str, tuple[str, ...]]:
        """Deployments that are held now, with what holds them."""
        with opened() as api:
            found = {kept["name"]: kept["claims"] for kept in map(content, variables(api))}
        held = {name: tuple(k for k, (kind, _) in claims.items() if kind == "hold") for name, claims in found.items()}
        return {name: keys for name, keys in held.items() if keys}

    def retry(self, run_id: str) -> bool:
        """Schedule a finished flow run of a deployment again; False if there is no such run."""
        with opened() as api:
            found = found_at(api, f"/flow_runs/{run_id}")
            if found is None or found.get("deployment_id") is None:
                return False
            state = AwaitingRetry().model_dump(mode="json", include={"type", "name", "message", "state_details"})
            body = {"state": state, "force": True}
            answer = api.call("POST", f"/flow_runs/{run_id}/set_state", body)
            return bool(answer["status"] == "ACCEPT")

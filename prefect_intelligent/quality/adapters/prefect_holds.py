"""Holds deployments while a dataset they read is bad, releases them, and retries flow runs.

Prefect can pause the schedule of a deployment, but that drops its scheduled runs and does not stop ad-hoc ones. A hold
takes all slots of the deployment's concurrency limit instead: every new run waits as `AwaitingConcurrencySlot` and none
is lost, unless the owner wants runs that find no slot to be cancelled (see `prefect_client.claims`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefect.states import AwaitingRetry

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import open_api, path
from prefect_intelligent.prefect_client.claims.in_force import claim, find_deployment, mend, release
from prefect_intelligent.prefect_client.claims.records import read_records

__all__ = ["PrefectDownstream"]


def _never(pool: str) -> bool:
    return False


class PrefectDownstream:
    """`Downstream` on the Prefect API of this process's settings.

    Args:
        switched_off: Whether `control off` keeps us from writing to a work pool.
    """

    def __init__(self, switched_off: Callable[[str], bool] = _never) -> None:
        self._switched_off = switched_off

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments from starting runs; unknown deployments are left out.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
            ConflictError: Steering of a pool is switched off; the deployments of other pools are held.
        """
        with open_api() as api:
            found = {name: find_deployment(api, name) for name in dict.fromkeys(deployments)}
            pools = {name: one.get("work_pool_name") for name, one in found.items() if one is not None}
            off = sorted(name for name, pool in pools.items() if pool is not None and self._switched_off(pool))
            held = claim(api, dataset, [name for name in deployments if name not in off], "hold", 0)
        if off:
            raise ConflictError(f"`control off` is in force for {_pools_of(off, pools)}: {', '.join(off)} NOT held")
        return held

    def release(self, dataset: str) -> tuple[str, ...]:
        """Give the deployments that nothing else holds back what their owners have set.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
            ConflictError: Steering of a pool is switched off; nothing was released.
        """
        with open_api() as api:
            names = [one.deployment for one in read_records(api).under(dataset)]
            pools = {name: (find_deployment(api, name) or {}).get("work_pool_name") for name in names}
            off = sorted(name for name, pool in pools.items() if pool is not None and self._switched_off(pool))
            if off:
                raise ConflictError(f"`control off` is in force for {_pools_of(off, pools)}; nothing was released")
            return tuple(name for name, _, _ in release(api, dataset))

    def held(self) -> dict[str, tuple[str, ...]]:
        """Each held deployment, and the datasets or measures that hold it; a hold that has come undone is mended."""
        with open_api() as api:
            mend(api, spared=lambda pool: pool is not None and self._switched_off(pool))
            records = read_records(api)
        held = {name: tuple(one.key for one in records.of(name) if one.kind == "hold") for name in records.deployments}
        return {name: keys for name, keys in held.items() if keys}

    def unknown(self, deployments: Sequence[str]) -> tuple[str, ...]:
        """Those that do not exist.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with open_api() as api:
            return tuple(name for name in dict.fromkeys(deployments) if find_deployment(api, name) is None)

    def deployments(self) -> tuple[str, ...]:
        """Names of all deployments.

        Raises:
            OrchestratorUnavailableError: The API cannot be reached.
        """
        with open_api() as api:
            flows = {flow["id"]: flow["name"] for page in api.pages("/flows/filter", {}) for flow in page}
            pages = api.pages("/deployments/filter", {})
            return tuple(f"{flows.get(one['flow_id'], '?')}/{one['name']}" for page in pages for one in page)

    def retry(self, run_id: str) -> bool:
        """Schedule a finished flow run again; False if it does not exist or belongs to no deployment."""
        with open_api() as api:
            found = api.call("GET", path("flow_runs", run_id), absent_ok=True)
            if found is None or found.get("deployment_id") is None:
                return False
            state = AwaitingRetry().model_dump(mode="json", include={"type", "name", "message", "state_details"})
            body = {"state": state, "force": True}
            answer = api.call("POST", f"/flow_runs/{run_id}/set_state", body)
            return bool(answer["status"] == "ACCEPT")


def _pools_of(names: Sequence[str], pools: dict[str, str | None]) -> str:
    return ", ".join(sorted({f"work pool {pools[name]!r}" for name in names}))

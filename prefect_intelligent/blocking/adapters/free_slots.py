"""Frees slots of a deployment's limit that the server counts as taken though no run holds them."""

from __future__ import annotations

from prefect_intelligent.blocking.adapters.prefect_facts import read_facts
from prefect_intelligent.blocking.adapters.subjects import Subject
from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.claims.in_force import find_deployment


def free_leaked_slots(api: PrefectApi, name: str) -> int:
    """Free them; returns their number.

    The server's count is lowered by as many, not set, so that a run that starts meanwhile keeps its slot.

    Raises:
        UnknownNameError: There is no such deployment.
        OrchestratorUnavailableError: Prefect cannot be asked.
    """
    found = find_deployment(api, name)
    if found is None:
        raise UnknownNameError("deployment", name, ())
    facts = read_facts(api, None, subject=Subject(pool=None, run=None, deployment=found))
    leaked = facts.deployments[str(found["id"])].leaked
    if leaked:
        body = {"names": [f"deployment:{found['id']}"], "slots": leaked}
        api.call("POST", "/v2/concurrency_limits/decrement", body, attempts=1)
    return leaked

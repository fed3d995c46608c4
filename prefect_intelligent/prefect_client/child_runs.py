"""Which runs have been started by which: a run that waits for others holds its slot meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_intelligent.prefect_client.api import PAGE, PrefectApi


def read_children(api: PrefectApi, tasks: Mapping[str, str]) -> dict[str, set[str]]:
    """Id of a run to the ids of the runs that it has started.

    Args:
        api: The server.
        tasks: Id of the task run that a run was started by, to the id of that run.
    """
    found: dict[str, set[str]] = {}
    ids = sorted(tasks)
    for start in range(0, len(ids), PAGE):
        body = {"task_runs": {"id": {"any_": ids[start : start + PAGE]}}}
        for page in api.pages("/task_runs/filter", body):
            for task in page:
                if task["flow_run_id"]:
                    found.setdefault(str(task["flow_run_id"]), set()).add(tasks[str(task["id"])])
    return found

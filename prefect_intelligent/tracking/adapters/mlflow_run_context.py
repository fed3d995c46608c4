"""Tags the user's own MLflow runs with the Prefect flow run in which they are made.

MLflow finds it by the entry point `mlflow.run_context_provider` and asks it at every `start_run`, also outside Prefect:
so nothing of Prefect's is imported here unless a flow is running, nothing is asked of a server, and nothing raises.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Final

_PREFIX: Final = "prefect."
_LOG = logging.getLogger(__name__)


class PrefectRunContext:
    """MLflow's `RunContextProvider` by shape; deriving from it would import MLflow, which then looks for this module.

    Tags `prefect.*`: flow_run_id, flow_run_name, flow, deployment_id, deployment, work_pool and work_queue.

    What a run does not have, or Prefect has not told its process, is left out.
    """

    def in_context(self) -> bool:
        """Whether a flow run is under way in this thread or task."""
        return _context() is not None

    def tags(self) -> dict[str, str]:
        """The tags."""
        try:
            return _tags(_context())
        except Exception as error:  # MLflow would fail the user's run
            _LOG.debug("no tags of the flow run: %s", error)
            return {}


def _context() -> Any:
    """Prefect's context of the flow run; None if there is none, or if Prefect was never imported."""
    module = sys.modules.get("prefect.context")
    try:
        return None if module is None else module.FlowRunContext.get() or _of_task(module)
    except Exception as error:
        _LOG.debug("no context of a flow run: %s", error)
        return None


def _of_task(module: Any) -> Any:
    """The context of a task run that is in a process of its own, where there is none of a flow run."""
    found = module.TaskRunContext.get()
    return found if found is not None and getattr(found.task_run, "flow_run_id", None) else None


def _tags(context: Any) -> dict[str, str]:
    if context is None:
        return {}
    run = getattr(context, "flow_run", None)
    if run is None:
        return {f"{_PREFIX}flow_run_id": str(context.task_run.flow_run_id)} if hasattr(context, "task_run") else {}
    flow = getattr(context, "flow", None)
    found = {
        "flow_run_id": run.id,
        "flow_run_name": run.name,
        "flow": getattr(flow, "name", None),
        "deployment_id": run.deployment_id,
        "deployment": _deployment(flow),
        "work_pool": getattr(run, "work_pool_name", None),
        "work_queue": getattr(run, "work_queue_name", None),
    }
    return {f"{_PREFIX}{name}": str(value) for name, value in found.items() if value is not None}


def _deployment(flow: Any) -> str | None:
    """Name of the run's deployment, "flow/deployment", as Prefect's worker has told the process."""
    name = os.environ.get("PREFECT__DEPLOYMENT_NAME")
    return f"{flow.name}/{name}" if name and flow is not None else None

"""Dataset events in Prefect: "fresh" and "arrived" for a batch, which the automations of `graph apply` wait for.

A few short calls. The ids of the events are derived from the run, so that Prefect drops an event that is sent twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.pipelines.event_names import (
    ARRIVED,
    BATCH,
    DATASET,
    FRESH,
    NO_PIPELINE,
    PIPELINE,
    PIPELINE_ENV,
)
from prefect_intelligent.pipelines.resource_changes import epoch_at
from prefect_intelligent.prefect_client.api import PrefectApi

_NAMESPACE: Final = uuid.UUID("6c1c5b6e-6f0d-4b8e-9d0c-6f7b8a5d2e10")
_PAGE: Final = 50
_LOOK_BACK: Final = timedelta(days=7)  # Prefect keeps events for a week


def epochs_variable(deployment_id: str) -> str:
    """Name of the Prefect variable with the pipeline versions of a deployment."""
    return f"prefect_intelligent_epochs_{deployment_id.replace('-', '')}"


def emit_dataset_events(
    api: PrefectApi, flow_run: Mapping[str, Any], outputs: Iterable[str], batch_parameter: str | None, *, fresh: bool
) -> list[str]:
    """Send the events for the outputs of a run that has ended.

    Args:
        api: The server.
        flow_run: As Prefect's API gives it.
        outputs: Datasets that it writes.
        batch_parameter: Name of the parameter that holds the batch; without one every run is a batch.
        fresh: False if the run has failed: its outputs have arrived, but are stale.

    Returns:
        Datasets for which events were sent. Those already fresh for the batch are left out, and so are all of a run
        that belongs to no pipeline written by `graph apply`.
    """
    if flow_run.get("deployment_id") is None:
        return []
    outputs = list(outputs)
    parameters: Mapping[str, Any] = flow_run.get("parameters") or {}
    value = parameters.get(batch_parameter) if batch_parameter is not None else parameters.get("batch")
    batch = str(flow_run["id"] if value is None else value)
    label = ((flow_run.get("job_variables") or {}).get("env") or {}).get(PIPELINE_ENV)
    resources = [DATASET + dataset for dataset in outputs]
    if label is None:
        epochs = api.call("GET", f"/variables/name/{epochs_variable(flow_run['deployment_id'])}", absent_ok=True)
        if epochs is None:  # the deployment belongs to no pipeline: no automation waits for the events
            return []
        begun_under, known = _batch_so_far(api, batch, resources)
        label = begun_under or epoch_at(epochs["value"], _started_s(flow_run)) or NO_PIPELINE
    else:
        _, known = _batch_so_far(api, batch, resources)
    events, sent = [], []
    for dataset in outputs:
        if (dataset, label) in known:
            continue
        sent.append(dataset)
        previous: str | None = None
        for name in (FRESH, ARRIVED) if fresh else (ARRIVED,):
            event = _event(name, flow_run, dataset, batch, label)
            if previous is not None:
                event["follows"] = previous
            previous = event["id"]
            events.append(event)
    if events:
        api.call("POST", "/events", events)
    return sent


def fresh_for(api: PrefectApi, batch: str) -> set[str]:
    """Datasets that are fresh for a batch, as far back as Prefect keeps events."""
    page = api.call("POST", "/events/filter", _fresh_events(batch))
    found = {event["resource"]["prefect.resource.id"].removeprefix(DATASET) for event in page["events"]}
    while page.get("next_page"):
        page = api.call("GET", "/events/filter/next?" + page["next_page"].partition("?")[2])
        found |= {event["resource"]["prefect.resource.id"].removeprefix(DATASET) for event in page["events"]}
    return found


def _fresh_events(batch: str, resources: Sequence[str] | None = None) -> dict[str, Any]:
    since = (datetime.now(UTC) - _LOOK_BACK).isoformat()
    resource: dict[str, Any] = {"labels": {BATCH: [batch]}}
    if resources is not None:
        resource["id"] = list(resources)
    wanted = {"event": {"name": [FRESH]}, "resource": resource, "occurred": {"since": since}, "order": "ASC"}
    return {"filter": wanted, "limit": _PAGE}


def _batch_so_far(api: PrefectApi, batch: str, resources: Sequence[str]) -> tuple[str | None, set[tuple[str, str]]]:
    """The pipeline version under which the batch began, and which datasets are fresh for it under which version.

    Of a batch with more events than a page holds, only the datasets in `resources` are returned.
    """
    found = api.call("POST", "/events/filter", _fresh_events(batch))["events"]
    label = found[0]["resource"].get(PIPELINE) if found else None
    if len(found) == _PAGE:
        found = api.call("POST", "/events/filter", _fresh_events(batch, resources))["events"]
    fresh = [event["resource"] for event in found]
    return label, {(r["prefect.resource.id"].removeprefix(DATASET), r.get(PIPELINE)) for r in fresh}


def _started_s(flow_run: Mapping[str, Any]) -> float:
    """When the run started, Unix seconds; now if that is not known."""
    started = flow_run.get("start_time") or flow_run.get("expected_start_time")
    return datetime.now(UTC).timestamp() if started is None else unix_s(str(started))


def _event(name: str, flow_run: Mapping[str, Any], dataset: str, batch: str, label: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(_NAMESPACE, f"{flow_run['id']}:{flow_run.get('run_count')}:{dataset}:{name}")),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": DATASET + dataset, BATCH: batch, PIPELINE: label},
        "related": [
            {"prefect.resource.id": f"prefect.flow-run.{flow_run['id']}", "prefect.resource.role": "flow-run"},
            {
                "prefect.resource.id": f"prefect.deployment.{flow_run['deployment_id']}",
                "prefect.resource.role": "deployment",
            },
        ],
        "payload": {},
    }

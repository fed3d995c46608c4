"""A deployable flow that sends the records spooled on its worker's machine to MLflow; an alternative to `ship`."""

from __future__ import annotations

from typing import Any

from prefect import flow

from prefect_intelligent.settings import load_settings
from prefect_intelligent.tracking.shipper import only_shipper
from prefect_intelligent.wiring.tracking import open_shipper


@flow
def ship_records(tracking_uri: str | None = None) -> dict[str, Any]:
    """One pass of the shipper; fails if records are left, so that Prefect's retries and alerts apply.

    Args:
        tracking_uri: MLflow server or database; None takes `MLFLOW_TRACKING_URI`, else the one in the data folder.

    Raises:
        RuntimeError: MLflow did not take everything.
    """
    shipper = open_shipper(load_settings().settings, uri=tracking_uri)
    with only_shipper(shipper.spool) as acquired:
        if not acquired:
            return {}
        done = shipper.once().to_record()
    if done["problem"]:
        raise RuntimeError(f"{done['waiting']} records wait: {done['problem']}")
    return done

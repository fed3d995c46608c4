"""The pull step of versioned deployments: unpacks the version that a run executes and labels the run with it.

Deployments on users' servers name `prefect_intelligent.pull_step.use_version`: the path is stable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.adapters.source_archive import unpack
from prefect_intelligent.pipelines.event_names import PIPELINE_ENV
from prefect_intelligent.pipelines.runs import VERSION_LABEL
from prefect_intelligent.pipelines.version import VERSION_ENV, choose_version
from prefect_intelligent.prefect_client.api import PrefectApi


def use_version(
    version: str, store: str, under: Mapping[str, str] | None = None, canary: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Unpack the code of the version that this run executes and make it the working directory.

    Called by Prefect in the process of the run, before the flow is loaded.

    Args:
        version: The deployment's version.
        store: Address of the store of versions (a path or an fsspec URL).
        under: Pipeline version to the version for batches that began under it.
        canary: The `version` on trial, and `tokens`, the concurrency limit that admits runs to it.

    Raises:
        UnknownNameError: The code is not in the store.
        StoreError: The code is damaged.
    """
    from prefect.runtime import flow_run

    inputs = {"version": version, "under": under, "canary": canary}
    run_id = flow_run.id or os.environ.get("PREFECT__FLOW_RUN_ID")
    api = PrefectApi(timeout_s=10, attempts=4)

    def label_of_run() -> str | None:
        held = {} if run_id is None else api.call("GET", f"/flow_runs/{run_id}")
        found = (held.get("labels") or {}).get(VERSION_LABEL)
        return None if found is None else str(found)

    chosen = choose_version(
        inputs,
        label=os.environ.get(PIPELINE_ENV),
        pinned=os.environ.get(VERSION_ENV),
        stamped=label_of_run,
        admit=lambda tokens: run_id is not None and take_token(api, tokens),
    )
    blobs = FsspecBlobStore(store)
    code = json.loads(blobs.get(chosen))["code"]
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    folder = home / "prefect-intelligent" / "unpacked" / code
    if not folder.exists():
        unpack(blobs.get(code), folder)
    if run_id is not None:
        api.call("PATCH", f"/flow_runs/{run_id}/labels", {VERSION_LABEL: chosen})
    return {"directory": str(folder), "version": chosen}


def take_token(api: PrefectApi, tokens: str) -> bool:
    """Take one slot of a concurrency limit for good; False if none is left, or the trial is over.

    Prefect counts slots in one statement, so no two runs take the same one. Without an answer the run is not admitted.
    """
    body = {"names": [tokens], "slots": 1, "mode": "concurrency"}
    try:
        return bool(api.call("POST", "/v2/concurrency_limits/increment", body, attempts=1))
    except OrchestratorError:
        return False

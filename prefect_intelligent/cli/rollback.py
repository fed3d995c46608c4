"""`prefect-intelligent rollback`: go back to an earlier version of a deployment, or of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, print_json, read_settings, tell_finished

if TYPE_CHECKING:
    from prefect_intelligent.wiring.pipelines import PipelineWorkspace


def command(
    deployment: Annotated[
        str | None,
        Parameter(
            name="FLOW/DEPLOYMENT",
            help="which (default: take back the last `modify` of a pipeline, from the next batch on)",
        ),
    ] = None,
    version: Annotated[
        str | None, Parameter(name="VERSION", help="tag or first digits (default: the version before)")
    ] = None,
    /,
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Go back."""
    from prefect_intelligent.pipelines.version import SHORT
    from prefect_intelligent.wiring.pipelines import open_workspace

    workspace = open_workspace(read_settings(config).settings)
    with workspace.exclusive() as finished:
        tell_finished(finished)
        if deployment is None:
            return _undo(workspace, as_json=as_json)
        found = workspace.rollout.roll_back(deployment, version)
    if as_json:
        print_json({"deployment": deployment, "version": found.id})
    else:
        print(f"{deployment} runs {found.id[:SHORT]}")
    return 0


def _undo(workspace: PipelineWorkspace, *, as_json: bool) -> int:
    from prefect_intelligent.pipelines.live_changes import UNDO, apply_modification, prepare_undo

    modification, version = prepare_undo(workspace.rollout, workspace.model_builder())
    apply_modification(workspace.rollout, modification, UNDO, version)
    changes = [{"verb": change.verb, "resource": change.resource} for change in modification.changes]
    if as_json:
        print_json({"changes": changes})
    else:
        print(f"took the last modification back: {len(changes)} changes written")
    return 0

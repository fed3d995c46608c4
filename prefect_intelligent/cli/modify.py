"""`prefect-intelligent modify`: change a pipeline while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    AllowDirty,
    Config,
    Json,
    Source,
    add,
    print_json,
    read_pairs,
    read_settings,
    subcommands,
)
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.pipelines.live_changes import Modification
    from prefect_intelligent.pipelines.survey import Overrides, PipelineModel
    from prefect_intelligent.wiring.pipelines import PipelineWorkspace

Yes = Annotated[bool, Parameter(name="--yes", help="write; without it only what would be written is shown")]
Force = Annotated[bool, Parameter(name="--force", help="write although it brings conflicts")]
Step = Annotated[str, Parameter(name="FLOW/DEPLOYMENT", help="the step")]
Datasets = Annotated[list[str] | None, Parameter(metavar="[DATASET ...]", consume_multiple=True)]

command = subcommands("modify")


@add(command, "replace", "new code for one step, from the next batch on")
def _replace(
    entrypoint: Annotated[str, Parameter(name="ENTRYPOINT", metavar="FILE.py:FLOW", help="relative to --source")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    yes: Yes = False,
    force: Force = False,
    name: Annotated[str, Parameter(metavar="NAME", help="name of the deployment")],
    source: Source = Path("."),
    allow_dirty: AllowDirty = False,
) -> int:
    from prefect_intelligent.pipelines.apply_graph import current_overrides
    from prefect_intelligent.pipelines.live_changes import MODIFY, apply_modification, prepare_modification
    from prefect_intelligent.wiring.pipeline_versions import Request, make_version, new_findings

    workspace = _open(config)
    with workspace.exclusive() as finished:
        build_model = workspace.model_builder()
        request = Request(entrypoint=entrypoint, name=name, source=source.resolve(), allow_dirty=allow_dirty)
        version = workspace.versions.keep(make_version(workspace, request))
        modification = prepare_modification(
            workspace.rollout, build_model, current_overrides(workspace.transactions), version
        )
        found = new_findings(build_model(modification.overrides), version)
        modification = replace(modification, findings=(*modification.findings, *found))
        blocked = bool(modification.findings) and not force
        if yes and not blocked:
            apply_modification(workspace.rollout, modification, MODIFY, version)
    return _report(modification, finished, blocked=blocked, yes=yes, as_json=as_json)


@add(command, "remove", "neither its inputs nor its schedules start a step any more")
def _remove(
    step: Step, /, *, config: Config = None, as_json: Json = False, yes: Yes = False, force: Force = False
) -> int:
    def removed(held: Overrides, model: PipelineModel) -> Overrides:
        return replace(held, removed=held.removed | {model.graph.check_deployment(step)})

    return _override(removed, config, yes=yes, force=force, as_json=as_json)


@add(command, "pause", "neither inputs nor schedules start a step, or anything that needs it, any more")
def _pause(
    step: Step, /, *, config: Config = None, as_json: Json = False, yes: Yes = False, force: Force = False
) -> int:
    def paused(held: Overrides, model: PipelineModel) -> Overrides:
        first = model.graph.check_deployment(step)
        return replace(held, removed=held.removed | {first} | model.graph.descendants([first]))

    return _override(paused, config, yes=yes, force=force, as_json=as_json)


@add(command, "add", "(again) start a step by its inputs; sets what it reads and writes")
def _add(
    step: Step,
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    yes: Yes = False,
    force: Force = False,
    inputs: Annotated[Datasets, Parameter(help="what it reads")] = None,
    outputs: Annotated[Datasets, Parameter(help="what it writes")] = None,
) -> int:
    def added(held: Overrides, model: PipelineModel) -> Overrides:
        name = model.graph.check_deployment(step)
        given = {side: names for side, names in (("inputs", inputs), ("outputs", outputs)) if names is not None}
        loop = set(inputs or ()) & set(outputs or ())
        if loop:
            raise InvalidInputError("--inputs", sorted(loop)[0], "a step cannot wait for a dataset it writes itself")
        again = replace(held, removed=held.removed - {name} - model.graph.descendants([name]))
        return again.with_terms(name, given) if given else again

    return _override(added, config, yes=yes, force=force, as_json=as_json)


@add(command, "reroute", "let a step read one dataset in place of another")
def _reroute(
    step: Step,
    old: Annotated[str, Parameter(name="OLD", help="dataset that it reads")],
    new: Annotated[str, Parameter(name="NEW", help="dataset that it reads instead")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    yes: Yes = False,
    force: Force = False,
) -> int:
    def rerouted(held: Overrides, model: PipelineModel) -> Overrides:
        name = model.graph.check_deployment(step)
        model.graph.check_dataset(new)
        inputs = list(model.graph.inputs[name])
        if old not in inputs:
            raise InvalidInputError("reroute", old, f"{name} reads {', '.join(inputs) or 'nothing'}")
        return held.with_terms(name, {"inputs": sorted({new if read == old else read for read in inputs})})

    return _override(rerouted, config, yes=yes, force=force, as_json=as_json)


@add(command, "set", "set parameters of the runs of a step; checked against its flow")
def _set(
    step: Step,
    parameters: Annotated[list[str], Parameter(name="NAME=JSON", help="parameter and its value; several may follow")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    yes: Yes = False,
    force: Force = False,
) -> int:
    def given(held: Overrides, model: PipelineModel) -> Overrides:
        return held.with_parameters(model.graph.check_deployment(step), read_pairs("parameter", parameters))

    return _override(given, config, yes=yes, force=force, as_json=as_json)


@add(command, "undo", "take the last modification back, from the next batch on")
def _undo(*, config: Config = None, as_json: Json = False, yes: Yes = False, force: Force = False) -> int:
    from prefect_intelligent.pipelines.live_changes import UNDO, apply_modification, prepare_undo

    workspace = _open(config)
    with workspace.exclusive() as finished:
        modification, version = prepare_undo(workspace.rollout, workspace.model_builder())
        blocked = bool(modification.findings) and not force
        if yes and not blocked:
            apply_modification(workspace.rollout, modification, UNDO, version)
    return _report(modification, finished, blocked=blocked, yes=yes, as_json=as_json)


def _open(config: str | None) -> PipelineWorkspace:
    from prefect_intelligent.wiring.pipelines import open_workspace

    return open_workspace(read_settings(config).settings)


def _override(
    change: Callable[[Overrides, PipelineModel], Overrides],
    config: str | None,
    *,
    yes: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Work out what changed overrides bring, check it, and write it with --yes."""
    from prefect_intelligent.pipelines.apply_graph import current_overrides
    from prefect_intelligent.pipelines.live_changes import MODIFY, apply_modification, prepare_modification

    workspace = _open(config)
    with workspace.exclusive() as finished:
        build_model = workspace.model_builder()
        held = current_overrides(workspace.transactions)
        modification = prepare_modification(workspace.rollout, build_model, change(held, build_model(held)))
        blocked = bool(modification.findings) and not force
        if yes and not blocked:
            apply_modification(workspace.rollout, modification, MODIFY)
    return _report(modification, finished, blocked=blocked, yes=yes, as_json=as_json)


def _report(modification: Modification, finished: str | None, *, blocked: bool, yes: bool, as_json: bool) -> int:
    """Say what was or would be written; the exit code."""
    rows = [{"verb": change.verb, "resource": change.resource} for change in modification.changes]
    written = yes and not blocked
    if as_json:
        findings = [finding.to_dict() for finding in modification.findings]
        print_json({"changes": rows, "written": written, "findings": findings, "finished": finished})
        return 1 if blocked else 0
    if finished is not None:
        print(f"finished what an earlier command had begun: {finished}")
    for note in modification.plan.notes:
        print(f"note: {note}")
    for finding in modification.findings:
        print(f"conflict {finding.rule}: {finding.evidence}")
    for row in rows:
        print(f"{row['verb']:7} {row['resource']}")
    state = (
        "written" if written else "not written (--force)" if blocked else "to write; nothing was written (add --yes)"
    )
    print(f"{len(rows)} {state}" if rows else "nothing to do")
    return 1 if blocked else 0

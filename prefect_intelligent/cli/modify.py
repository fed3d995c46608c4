"""`prefect-intelligent modify`: change a pipeline while it runs."""

from __future__ import annotations

import argparse
from dataclasses import replace

from prefect_intelligent.cli.deploy import add_source, read_pairs
from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.apply_graph import current_overrides
from prefect_intelligent.pipelines.live_changes import (
    MODIFY,
    UNDO,
    Modification,
    apply_modification,
    prepare_modification,
    prepare_undo,
)
from prefect_intelligent.pipelines.survey import Overrides
from prefect_intelligent.pipelines.version import DeploymentVersion
from prefect_intelligent.wiring.pipeline_versions import Request, make_version, new_findings
from prefect_intelligent.wiring.pipelines import PipelineWorkspace, open_workspace


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parsers = {
        name: actions.add_parser(name, help=summary, description=summary)
        for name, summary in (
            ("replace", "new code for one step, from the next batch on"),
            ("remove", "neither its inputs nor its schedules start a step any more"),
            ("pause", "the same, for a branch: the step and all that needs it"),
            ("add", "(again) start a step by its inputs; sets what it reads and writes"),
            ("reroute", "let a step read one dataset in place of another"),
            ("set", "set parameters of the runs of a step; checked against its flow"),
            ("undo", "take the last modification back, from the next batch on"),
        )
    }
    for name, sub in parsers.items():
        add_config(sub)
        add_json(sub)
        sub.add_argument("--yes", action="store_true", help="write; without it only what would be written is shown")
        sub.add_argument("--force", action="store_true", help="write although it brings conflicts")
        if name not in ("undo", "replace"):
            sub.add_argument("step", metavar="FLOW/DEPLOYMENT")
    parsers["replace"].add_argument("entrypoint", metavar="FILE.py:FLOW")
    parsers["replace"].add_argument("--name", required=True, help="name of the deployment")
    add_source(parsers["replace"])
    for side in ("inputs", "outputs"):
        parsers["add"].add_argument(f"--{side}", nargs="*", metavar="DATASET")
    parsers["reroute"].add_argument("old", metavar="DATASET")
    parsers["reroute"].add_argument("new", metavar="DATASET")
    parsers["set"].add_argument("parameters", nargs="+", metavar="NAME=JSON")


def run(args: argparse.Namespace) -> int:
    """Work the modification out, check it, and write it with --yes."""
    workspace = open_workspace(read_settings(args).settings)
    with workspace.exclusive() as finished:
        build_model = workspace.model_builder()
        version = None
        if args.action == "undo":
            modification, version = prepare_undo(workspace.rollout, build_model)
        elif args.action == "replace":
            version = _new_version(workspace, args)
            modification = prepare_modification(
                workspace.rollout, build_model, current_overrides(workspace.transactions), version
            )
        else:
            modification = prepare_modification(workspace.rollout, build_model, _overrides(workspace, args))
        blocked = bool(modification.findings) and not args.force
        if version is not None and args.action == "replace":
            found = new_findings(build_model(modification.overrides), version)
            modification = replace(modification, findings=(*modification.findings, *found))
            blocked = bool(modification.findings) and not args.force
        if args.yes and not blocked:
            apply_modification(workspace.rollout, modification, UNDO if args.action == "undo" else MODIFY, version)
    _report(modification, args, finished, blocked)
    return 1 if blocked else 0


def _new_version(workspace: PipelineWorkspace, args: argparse.Namespace) -> DeploymentVersion:
    request = Request(
        entrypoint=args.entrypoint, name=args.name, source=args.source.resolve(), allow_dirty=args.allow_dirty
    )
    return workspace.versions.keep(make_version(workspace, request))


def _overrides(workspace: PipelineWorkspace, args: argparse.Namespace) -> Overrides:
    """The overrides in force with the change that was asked for."""
    held = current_overrides(workspace.transactions)
    model = workspace.model_builder()(held)
    step = model.graph.check_deployment(args.step)
    if args.action == "remove":
        return replace(held, removed=held.removed | {step})
    if args.action == "pause":
        return replace(held, removed=held.removed | {step} | model.graph.descendants([step]))
    if args.action == "set":
        return held.with_parameters(step, read_pairs("parameter", args.parameters))
    if args.action == "add":
        given = {side: getattr(args, side) for side in ("inputs", "outputs") if getattr(args, side) is not None}
        loop = set(given.get("inputs", ())) & set(given.get("outputs", ()))
        if loop:
            raise InvalidInputError("--inputs", sorted(loop)[0], "a step cannot wait for a dataset it writes itself")
        again = replace(held, removed=held.removed - {step} - model.graph.descendants([step]))
        return again.with_terms(step, given) if given else again
    model.graph.check_dataset(args.new)
    inputs = list(model.graph.inputs[step])
    if args.old not in inputs:
        raise InvalidInputError("reroute", args.old, f"{step} reads {', '.join(inputs) or 'nothing'}")
    return held.with_terms(step, {"inputs": sorted({args.new if name == args.old else name for name in inputs})})


def _report(modification: Modification, args: argparse.Namespace, finished: str | None, blocked: bool) -> None:
    rows = [{"verb": change.verb, "resource": change.resource} for change in modification.changes]
    written = args.yes and not blocked
    if args.json:
        findings = [finding.to_dict() for finding in modification.findings]
        print_json({"changes": rows, "written": written, "findings": findings, "finished": finished})
        return
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

"""`prefect-intelligent rollback`: go back to an earlier version of a deployment, or of a pipeline."""

from __future__ import annotations

import argparse

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings, tell_finished
from prefect_intelligent.pipelines.live_changes import UNDO, apply_modification, prepare_undo
from prefect_intelligent.pipelines.version import SHORT
from prefect_intelligent.wiring.pipelines import PipelineWorkspace, open_workspace


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    parser.add_argument(
        "deployment",
        metavar="FLOW/DEPLOYMENT",
        nargs="?",
        help="which (default: take back the last `modify` of a pipeline, from the next batch on)",
    )
    parser.add_argument("version", nargs="?", help="tag or first digits (default: the version before)")


def run(args: argparse.Namespace) -> int:
    """Go back."""
    workspace = open_workspace(read_settings(args).settings)
    with workspace.exclusive() as finished:
        tell_finished(finished)
        if args.deployment is None:
            return _undo(workspace, args)
        version = workspace.rollout.roll_back(args.deployment, args.version)
    if args.json:
        print_json({"deployment": args.deployment, "version": version.id})
    else:
        print(f"{args.deployment} runs {version.id[:SHORT]}")
    return 0


def _undo(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    modification, version = prepare_undo(workspace.rollout, workspace.model_builder())
    apply_modification(workspace.rollout, modification, UNDO, version)
    changes = [{"verb": change.verb, "resource": change.resource} for change in modification.changes]
    if args.json:
        print_json({"changes": changes})
    else:
        print(f"took the last modification back: {len(changes)} changes written")
    return 0

"""`prefect-intelligent versions`: list, pipelines, show, diff, tag, gc."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings, tell_finished
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.apply_graph import pipeline_versions
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.version import SHORT, pull_inputs, version_differences
from prefect_intelligent.wiring.pipeline_versions import content_difference
from prefect_intelligent.wiring.pipelines import PipelineWorkspace, open_workspace


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parsers = {
        name: actions.add_parser(name, help=summary, description=summary)
        for name, summary in (
            ("list", "versions, oldest first; a star marks those in force"),
            (
                "pipelines",
                "versions of whole pipelines, oldest first: what made them and when; a star marks those in force",
            ),
            ("show", "everything recorded of a version"),
            ("diff", "what differs between two versions: settings, packages and source"),
            ("tag", "give a version a name"),
            ("gc", "forget old versions and delete what none needs; a dry run without --yes"),
        )
    }
    for sub in parsers.values():
        add_config(sub)
        add_json(sub)
    parsers["list"].add_argument("deployment", nargs="?", metavar="FLOW/DEPLOYMENT")
    parsers["show"].add_argument("version")
    parsers["diff"].add_argument("old")
    parsers["diff"].add_argument("new")
    parsers["tag"].add_argument("version")
    parsers["tag"].add_argument("name")
    parsers["gc"].add_argument("--keep", type=int, default=10, help="newest of each deployment to keep (default 10)")
    parsers["gc"].add_argument("--yes", action="store_true", help="delete")


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    workspace = open_workspace(read_settings(args).settings)
    if args.action != "gc":
        tell_finished(workspace.recover())
    actions = {"list": _list, "pipelines": _pipelines, "show": _show, "diff": _diff, "tag": _tag, "gc": _gc}
    return actions[args.action](workspace, args)


def _in_force(workspace: PipelineWorkspace) -> set[str]:
    """Ids of all versions that a deployment may run, batches in flight included."""
    found: set[str] = set()
    for resource, content in workspace.server.read_all(DEPLOYMENT).items():
        inputs = pull_inputs(content) or {}
        found.update(str(version) for version in (inputs.get("under") or {}).values())
        current = workspace.versions.current(resource.removeprefix(DEPLOYMENT), content)
        found.update(() if current is None else (current.id,))
    return found


def _list(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    if args.deployment is not None:
        workspace.server.deployment_id(args.deployment)
    in_force = _in_force(workspace)
    names: dict[str, list[str]] = {}
    for tag, version_id in workspace.versions.tags().items():
        names.setdefault(version_id, []).append(tag)
    versions = workspace.versions.all(args.deployment)
    if args.json:
        rows = [{**v.to_dict(), "in_force": v.id in in_force, "tags": names.get(v.id, [])} for v in versions]
        print_json({"versions": rows})
        return 0
    for version in versions:
        at = datetime.fromtimestamp(version.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        commit = "found" if version.code is None else (version.code.commit or "no commit")[:SHORT]
        dirty = "+changes" if version.code is not None and version.code.changes else ""
        mark = "*" if version.id in in_force else " "
        tags = " ".join(names.get(version.id, []))
        print(f"{mark} {version.id[:SHORT]}  {at}  {version.deployment:32} {commit}{dirty}  {version.author}  {tags}")
    if not versions:
        print("no versions")
    return 0


def _pipelines(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    found = pipeline_versions(workspace.transactions)
    if args.json:
        print_json({"pipelines": [asdict(version) for version in found]})
        return 0
    for version in found:
        at = datetime.fromtimestamp(version.since_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        mark = "*" if version.in_force else " "
        what = version.title if version.replaced is None else f"{version.title} ({version.replaced} replaced)"
        print(f"{mark} {version.label:14} {at}  {what}: {', '.join(version.deployments)}")
    if not found:
        print("no pipelines: `graph apply --yes` makes the first version of each")
    return 0


def _show(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    print_json(workspace.versions.get(args.version).to_dict())
    return 0


def _diff(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    old, new = workspace.versions.get(args.old), workspace.versions.get(args.new)
    lines = version_differences(old, new)
    packages, files = content_difference(workspace, old, new)
    if args.json:
        print_json({"differences": lines, "packages": packages, "files": files})
    else:
        print("\n".join([*lines, *packages, *files]) or "no difference")
    return 1 if lines else 0


def _tag(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    version = workspace.versions.get(args.version)
    workspace.versions.tag(version, args.name)
    print(f"{version.id[:SHORT]} is {args.name}")
    return 0


def _gc(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    if args.keep < 0:
        raise InvalidInputError("--keep", args.keep, "must be 0 or more")
    with workspace.exclusive():
        in_force = _in_force(workspace)
        forgotten, blobs = workspace.versions.collect(in_force, args.keep, write=args.yes)
    done = "removed" if args.yes else "to remove; nothing was removed (add --yes)"
    if args.json:
        print_json({"versions": [version.id for version in forgotten], "blobs": blobs, "removed": args.yes})
    else:
        print(f"{len(forgotten)} versions and {blobs} blobs {done}")
    return 0

"""`prefect-intelligent versions`: list, pipelines, show, diff, tag, gc."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    Config,
    Int,
    Json,
    add,
    print_json,
    read_settings,
    subcommands,
    tell_finished,
)
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.wiring.pipelines import PipelineWorkspace

command = subcommands("versions")

Version = Annotated[str, Parameter(name="VERSION", help="tag or first digits")]


def _open(config: str | None) -> PipelineWorkspace:
    """The workspace, after what a command that died has begun is finished."""
    from prefect_intelligent.wiring.pipelines import open_workspace

    workspace = open_workspace(read_settings(config).settings)
    tell_finished(workspace.recover())
    return workspace


def _in_force(workspace: PipelineWorkspace) -> set[str]:
    """Ids of all versions that a deployment may run, batches in flight included."""
    from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
    from prefect_intelligent.pipelines.version import pull_inputs

    found: set[str] = set()
    for resource, content in workspace.server.read_all(DEPLOYMENT).items():
        inputs = pull_inputs(content) or {}
        found.update(str(version) for version in (inputs.get("under") or {}).values())
        current = workspace.versions.current(resource.removeprefix(DEPLOYMENT), content)
        found.update(() if current is None else (current.id,))
    return found


@add(command, "list", "versions, oldest first; a star marks those in force")
def _list(
    deployment: Annotated[str | None, Parameter(name="FLOW/DEPLOYMENT", help="only of this one")] = None,
    /,
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    from prefect_intelligent.pipelines.version import SHORT

    workspace = _open(config)
    if deployment is not None:
        workspace.server.deployment_id(deployment)
    in_force = _in_force(workspace)
    names: dict[str, list[str]] = {}
    for tag, version_id in workspace.versions.tags().items():
        names.setdefault(version_id, []).append(tag)
    versions = workspace.versions.all(deployment)
    if as_json:
        rows = [{**v.to_dict(), "in_force": v.id in in_force, "tags": names.get(v.id, [])} for v in versions]
        print_json({"versions": rows})
        return 0
    for version in versions:
        at = utc(version.at_s).strftime("%Y-%m-%d %H:%M:%S")
        commit = "found" if version.code is None else (version.code.commit or "no commit")[:SHORT]
        dirty = "+changes" if version.code is not None and version.code.changes else ""
        mark = "*" if version.id in in_force else " "
        tags = " ".join(names.get(version.id, []))
        print(f"{mark} {version.id[:SHORT]}  {at}  {version.deployment:32} {commit}{dirty}  {version.author}  {tags}")
    if not versions:
        print("no versions")
    return 0


@add(
    command,
    "pipelines",
    "versions of whole pipelines, oldest first: what made them and when; a star marks those in force",
)
def _pipelines(*, config: Config = None, as_json: Json = False) -> int:
    from prefect_intelligent.pipelines.apply_graph import pipeline_versions

    found = pipeline_versions(_open(config).transactions)
    if as_json:
        print_json({"pipelines": [asdict(version) for version in found]})
        return 0
    for version in found:
        at = utc(version.since_s).strftime("%Y-%m-%d %H:%M:%S")
        mark = "*" if version.in_force else " "
        what = version.title if version.replaced is None else f"{version.title} ({version.replaced} replaced)"
        print(f"{mark} {version.label:14} {at}  {what}: {', '.join(version.deployments)}")
    if not found:
        print("no pipelines: `graph apply --yes` makes the first version of each")
    return 0


@add(command, "show", "everything recorded of a version")
def _show(version: Version, /, *, config: Config = None, as_json: Json = False) -> int:
    print_json(_open(config).versions.get(version).to_dict())  # there is no other form, with or without --json
    return 0


@add(command, "diff", "what differs between two versions: settings, packages and source")
def _diff(
    old: Annotated[Version, Parameter(name="OLD")],
    new: Annotated[Version, Parameter(name="NEW")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    from prefect_intelligent.pipelines.version import version_differences
    from prefect_intelligent.wiring.pipeline_versions import content_difference

    workspace = _open(config)
    before, after = workspace.versions.get(old), workspace.versions.get(new)
    lines = version_differences(before, after)
    packages, files = content_difference(workspace, before, after)
    if as_json:
        print_json({"differences": lines, "packages": packages, "files": files})
    else:
        print("\n".join([*lines, *packages, *files]) or "no version_differences")
    return 1 if lines else 0


@add(command, "tag", "give a version a name")
def _tag(
    version: Version,
    name: Annotated[str, Parameter(name="NAME", help="the tag")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    from prefect_intelligent.pipelines.version import SHORT

    workspace = _open(config)
    found = workspace.versions.get(version)
    workspace.versions.tag(found, name)
    print(f"{found.id[:SHORT]} is {name}")
    return 0


@add(command, "gc", "forget old versions and delete what none needs; a dry run without --yes")
def _gc(
    *,
    config: Config = None,
    as_json: Json = False,
    keep: Annotated[Int, Parameter(metavar="KEEP", help="newest of each deployment to keep (default 10)")] = 10,
    yes: Annotated[bool, Parameter(help="delete")] = False,
) -> int:
    from prefect_intelligent.wiring.pipelines import open_workspace

    workspace = open_workspace(read_settings(config).settings)
    if keep < 0:
        raise InvalidInputError("--keep", keep, "must be 0 or more")
    with workspace.exclusive():
        in_force = _in_force(workspace)
        forgotten, blobs = workspace.versions.collect(in_force, keep, write=yes)
    done = "removed" if yes else "to remove; nothing was removed (add --yes)"
    if as_json:
        print_json({"versions": [version.id for version in forgotten], "blobs": blobs, "removed": yes})
    else:
        print(f"{len(forgotten)} versions and {blobs} blobs {done}")
    return 0

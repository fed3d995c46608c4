"""`prefect-intelligent graph`: show, critical, impact, plan, announce, check, apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    Config,
    Json,
    Output,
    add,
    print_json,
    read_settings,
    subcommands,
    tell_finished,
)
from prefect_intelligent.domain.spans import format_span, parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.pipelines.conflicts import Finding
    from prefect_intelligent.pipelines.resource_changes import ResourceChange
    from prefect_intelligent.pipelines.survey import PipelineModel
    from prefect_intelligent.wiring.pipelines import PipelineWorkspace

_ROUNDS = 8
"""Of fixing and looking again."""

Project = Annotated[
    Path | None, Parameter(name="--project", metavar="FILE", help="project file (default pipelines.toml)")
]
OnLate = Literal["hold", "skip", "stale"]

command = subcommands("graph")


def _open(config: str | None, project: Path | None) -> PipelineWorkspace:
    """The workspace, after what a command that died has begun is finished."""
    from prefect_intelligent.wiring.pipelines import open_workspace

    workspace = open_workspace(read_settings(config).settings, project=project)
    tell_finished(workspace.recover())
    return workspace


def _notes(model: PipelineModel) -> None:
    for note in model.notes:
        print(f"note: {note}")


@add(command, "show", "datasets, deployments and what joins them")
def _show(
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    shown_as: Annotated[
        Literal["table", "mermaid", "svg", "json"], Parameter(name="--format", help="how it is printed (default table)")
    ] = "table",
) -> int:
    from prefect_intelligent.pipelines.critical_path import critical_path
    from prefect_intelligent.pipelines.graph import find_cycles
    from prefect_intelligent.pipelines.render import to_mermaid, to_svg

    model = _open(config, project).model()
    graph = model.graph
    if as_json or shown_as == "json":
        edges = [
            {
                "source": edge.source,
                "target": edge.target,
                "kind": edge.kind,
                "certainty": edge.certainty,
                "evidence": [{"kind": item.kind, "where": item.where} for item in edge.evidence],
            }
            for edge in graph.edges
        ]
        print_json({"deployments": graph.deployments, "datasets": graph.datasets, "edges": edges})
    elif shown_as == "mermaid":
        print(to_mermaid(graph), end="")
    elif shown_as == "svg":
        path = [] if find_cycles(graph) else critical_path(graph, model.nodes).deployments
        print(to_svg(graph, path), end="")
    else:
        from prefect_intelligent.cli.tables import print_table

        rows = [
            {
                "from": edge.source,
                "": edge.kind,
                "to": edge.target,
                "certainty": f"{edge.certainty:g}",
                "evidence": ", ".join(f"{item.kind} {item.where}".strip() for item in edge.evidence),
            }
            for edge in graph.edges
        ]
        rows += [
            {
                "from": edge.source,
                "": edge.kind,
                "to": edge.target,
                "certainty": "overruled",
                "evidence": "contradicts a declaration",
            }
            for edge in graph.overruled
        ]
        title = f"{len(graph.deployments)} deployments, {len(graph.datasets)} datasets"
        print_table(rows, title=title, text="evidence", drop=("certainty",))
        _notes(model)
    return 0


@add(command, "critical", "the chain that sets how soon everything can be fresh, with p50 and p90")
def _critical(
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    to: Annotated[str | None, Parameter(metavar="DATASET", help="only what this dataset needs")] = None,
) -> int:
    from prefect_intelligent.pipelines.critical_path import critical_path

    model = _open(config, project).model()
    path = critical_path(model.graph, model.nodes, to)
    rows = [(name, model.nodes[name].duration) for name in path.deployments if name in model.nodes]
    if as_json:
        print_json(
            {
                "p50_s": path.duration.p50_s,
                "p90_s": path.duration.p90_s,
                "deployments": [{"name": name, "p50_s": e.p50_s, "p90_s": e.p90_s} for name, e in rows],
            }
        )
        return 0
    for name, estimate in [*rows, ("together", path.duration)]:
        p50, p90 = (format_span(round(value, 1)) for value in (estimate.p50_s, estimate.p90_s))
        print(f"{name:40} p50 {p50:>10}  p90 {p90:>10}")
    return 0


@add(command, "impact", "what is late if a deployment is late, and what that costs")
def _impact(
    deployment: Annotated[str, Parameter(name="FLOW/DEPLOYMENT", help="what is late")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    late: Annotated[str, Parameter(metavar="SPAN", help="by how much (default 1h)")] = "1h",
) -> int:
    from prefect_intelligent.pipelines.critical_path import impact

    model = _open(config, project).model()
    delay_s = parse_span(late, what="--late")
    inventory = model.inventory
    delays = impact(model.graph, model.nodes, deployment, delay_s, inventory.prices, inventory.at_s)
    if as_json:
        rows = [
            {"deployment": d.deployment, "late_s": d.late_s, "overdue_s": d.overdue_s, "cost_usd": d.cost_usd}
            for d in delays
        ]
        print_json({"delays": rows, "cost_usd": sum(d.cost_usd for d in delays)})
        return 0
    for d in delays:
        overdue = f"{format_span(round(d.overdue_s))} past its deadline" if d.overdue_s else "in time"
        print(f"{d.deployment:40} {format_span(round(d.late_s)):>10} later, {overdue}, {d.cost_usd:.2f} USD")
    print(f"together {sum(d.cost_usd for d in delays):.2f} USD per batch")
    return 0


@add(command, "plan", "what must run, in which order, to refresh a dataset")
def _plan(
    dataset: Annotated[str, Parameter(name="DATASET", help="what to refresh")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    fresh: Annotated[tuple[str, ...], Parameter(metavar="DATASET", help="is up to date already")] = (),
    batch: Annotated[
        str | None,
        Parameter(metavar="BATCH", help="after a failure: leave out what has been fresh for this batch (last 7 days)"),
    ] = None,
) -> int:
    from prefect_intelligent.pipelines.critical_path import refresh_plan

    workspace = _open(config, project)
    graph = workspace.model(history=False).graph
    known = set(fresh)
    if batch is not None:
        known |= workspace.fresh_datasets(batch) & set(graph.datasets)
    names = refresh_plan(graph, dataset, known)
    if as_json:
        print_json({"dataset": dataset, "deployments": names, "fresh": sorted(known)})
        return 0
    for index, name in enumerate(names, 1):
        print(f"{index:3}. {name}")
    if not names:
        print("nothing to do")
    return 0


@add(command, "announce", "announce the datasets of a run whose hook could not reach Prefect")
def _announce(
    flow_run: Annotated[str, Parameter(name="FLOW-RUN-ID", help="an ended run of a deployment")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
) -> int:
    from prefect_intelligent.pipelines.automations import batch_parameter

    workspace = _open(config, project)
    held = workspace.api.call("GET", f"/flow_runs/{quote(flow_run)}", absent_ok=True)
    if held is None or held["deployment_id"] is None or held["state_type"] not in ("COMPLETED", "FAILED", "CRASHED"):
        raise InvalidInputError("flow run", flow_run, "must be an ended run of a deployment")
    node = workspace.model(history=False).nodes[workspace.server.deployment_name(held["deployment_id"])]
    found = workspace.emit_dataset_events(held, node.terms.outputs, batch_parameter(node))
    if as_json:
        print_json({"announced": found})
    else:
        print(f"announced {', '.join(found)}" if found else "nothing to announce")
    return 0


@add(command, "check", "find conflicts; exit code 1 if there are any")
def _check(
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    ignore: Annotated[tuple[str, ...], Parameter(metavar="RULE", help="leave a rule out")] = (),
    fix: Annotated[bool, Parameter(help="apply the fixes that are safe; 1 if conflicts remain")] = False,
    output: Output = None,
) -> int:
    from prefect_intelligent.pipelines.conflicts import find_conflicts
    from prefect_intelligent.pipelines.conflicts_fix import apply_fixes
    from prefect_intelligent.pipelines.conflicts_simulation import overloaded_hours
    from prefect_intelligent.pipelines.project_file import read_project
    from prefect_intelligent.wiring.pipelines import PROJECT_FILE

    workspace = _open(config, project)
    model = workspace.model()
    findings = find_conflicts(model.graph, overloaded_hours(model.graph, model.inventory), ignore)
    fixed: list[str] = []
    if fix and findings:
        file = project or workspace.folder / PROJECT_FILE
        with workspace.exclusive():
            for _ in range(_ROUNDS):  # a shifted producer may make its readers too early in turn
                done = apply_fixes(workspace.transactions, findings, file)
                if not done:
                    break
                fixed += done
                if file.is_file():
                    workspace = workspace.with_project(read_project(file.read_text(), file.name))
                model = workspace.model()
                findings = find_conflicts(model.graph, overloaded_hours(model.graph, model.inventory), ignore)
            workspace.publish(model)
    if as_json:
        print_json({"findings": [finding.to_dict() for finding in findings], "fixed": fixed})
    elif output == "github":
        from prefect_intelligent.cli.formatting import annotation

        for finding in findings:
            print(
                annotation(
                    f"{finding.evidence}\n{finding.advice}", title=f"{finding.rule}: {', '.join(finding.subjects)}"
                )
            )
    else:
        _notes(model)
        for finding in findings:
            _print_finding(finding)
        for line in fixed:
            print(f"fixed: {line}")
        left = f"{len(findings)} findings" if findings else "no conflict found"
        print(f"{left}, {len(fixed)} fixed" if fixed else left)
    return 1 if findings else 0


def _print_finding(finding: Finding) -> None:
    cost = "" if finding.cost_usd is None else f" ({finding.cost_usd:.2f} USD)"
    print(f"{finding.rule}{cost}: {finding.evidence}\n    {finding.advice}")


@add(command, "apply", "write the automations that run everything in order; a dry run without --yes")
def _apply(
    *,
    config: Config = None,
    as_json: Json = False,
    project: Project = None,
    yes: Annotated[bool, Parameter(help="write")] = False,
    wait: Annotated[
        str | None, Parameter(metavar="SPAN", help="how long a batch waits for its inputs (default 6h)")
    ] = None,
    on_late: Annotated[
        OnLate | None, Parameter(help="what happens to a batch that has waited so long (default hold)")
    ] = None,
    prune: Annotated[bool, Parameter(help="remove automations kept for batches in flight")] = False,
    remove: Annotated[bool, Parameter(help="remove everything that graph apply has written")] = False,
) -> int:
    from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations, remove_all
    from prefect_intelligent.pipelines.automations import describe_start
    from prefect_intelligent.pipelines.project_file import replace_wait_policy
    from prefect_intelligent.wiring.pipelines import PROJECT_FILE, open_workspace

    workspace = open_workspace(read_settings(config).settings, project=project)
    if remove:
        with workspace.exclusive():
            changes = remove_all(workspace.transactions, write=yes)
        _report_changes(changes, written=yes, as_json=as_json)
        return 0
    wait_s = None if wait is None else parse_span(wait, what="--wait")
    workspace = workspace.with_project(replace_wait_policy(workspace.project, wait_s, on_late))
    with workspace.exclusive() as finished:
        model = workspace.model(history=False)
        plan = plan_automations(workspace.server, model, workspace.clock.now_s(), prune=prune)
        published: list[str] = []
        if yes:
            apply_automations(workspace.transactions, plan)
            published = workspace.publish(model)
    if not as_json:
        if wait or on_late:
            print(
                f"note: --wait and --on-late hold until the next command; to keep them, write them into {PROJECT_FILE}"
            )
        tell_finished(finished)
        for note in plan.notes:
            print(f"note: {note}")
        for name in published:
            print(f"note: controllers now know the terms that {PROJECT_FILE} gives {name}")
    sentences = [describe_start(start) for component in plan.components for start in component.starts.values()]
    more = {"retired": plan.retired, "notes": plan.notes, "finished": finished, "published": published}
    more |= {"starts": sentences}
    _report_changes(plan.changes, written=yes, as_json=as_json, more=more)
    for sentence in () if as_json else sentences:
        print(sentence)
    return 0


def _report_changes(
    changes: Sequence[ResourceChange], *, written: bool, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    rows = [{"verb": change.verb, "resource": change.resource} for change in changes]
    if as_json:
        print_json({"changes": rows, "written": written, **(more or {})})
        return
    for row in rows:
        print(f"{row['verb']:7} {row['resource']}")
    done = "written" if written else "to write; nothing was written (add --yes)"
    print(f"{len(rows)} {done}" if rows else "nothing to do")

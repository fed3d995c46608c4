"""`prefect-intelligent graph`: show, critical, impact, plan, check, apply."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings, tell_finished
from prefect_intelligent.domain.deadlines import format_span, parse_span
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.adapters.dataset_events import emit_dataset_events, fresh_for
from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations, remove_all
from prefect_intelligent.pipelines.automations import batch_parameter
from prefect_intelligent.pipelines.conflicts import Finding, find_conflicts
from prefect_intelligent.pipelines.conflicts_fix import apply_fixes
from prefect_intelligent.pipelines.conflicts_simulation import overloaded_hours
from prefect_intelligent.pipelines.critical_path import critical_path, impact, refresh_plan
from prefect_intelligent.pipelines.graph import find_cycles
from prefect_intelligent.pipelines.project_file import LatePolicy, read_project, replace_wait_policy
from prefect_intelligent.pipelines.render import to_mermaid, to_svg
from prefect_intelligent.pipelines.resource_changes import ResourceChange
from prefect_intelligent.pipelines.survey import PipelineModel
from prefect_intelligent.wiring.pipelines import PROJECT_FILE, PipelineWorkspace, open_workspace

_ROUNDS = 8
"""Of fixing and looking again."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = _action(actions, "show", "datasets, deployments and what joins them")
    show.add_argument("--format", choices=("table", "mermaid", "svg", "json"), default="table")
    critical = _action(actions, "critical", "the chain that sets how soon everything can be fresh, with p50 and p90")
    critical.add_argument("--to", metavar="DATASET", help="only what this dataset needs")
    late = _action(actions, "impact", "what is late if a deployment is late, and what that costs")
    late.add_argument("deployment", metavar="FLOW/DEPLOYMENT")
    late.add_argument("--late", default="1h", metavar="SPAN", help="by how much (default 1h)")
    order = _action(actions, "plan", "what must run, in which order, to refresh a dataset")
    order.add_argument("dataset", metavar="DATASET")
    order.add_argument("--fresh", action="append", default=[], metavar="DATASET", help="is up to date already")
    order.add_argument("--batch", help="after a failure: leave out what has been fresh for this batch (last 7 days)")
    told = _action(actions, "announce", "announce the datasets of a run whose hook could not reach Prefect")
    told.add_argument("flow_run", metavar="FLOW-RUN-ID")
    checked = _action(actions, "check", "find conflicts; exit code 1 if there are any")
    checked.add_argument("--ignore", action="append", default=[], metavar="RULE", help="leave a rule out")
    checked.add_argument("--fix", action="store_true", help="apply the fixes that are safe; 1 if conflicts remain")
    applied = _action(actions, "apply", "write the automations that run everything in order; a dry run without --yes")
    applied.add_argument("--yes", action="store_true", help="write")
    applied.add_argument("--wait", metavar="SPAN", help="how long a batch waits for its inputs (default 6h)")
    applied.add_argument("--on-late", choices=get_args(LatePolicy), help="what then happens (default hold)")
    applied.add_argument("--prune", action="store_true", help="remove automations kept for batches in flight")
    applied.add_argument("--remove", action="store_true", help="remove everything that graph apply has written")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    add_config(parser)
    add_json(parser)
    parser.add_argument("--project", type=Path, metavar="FILE", help=f"project file (default {PROJECT_FILE})")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    workspace = open_workspace(read_settings(args).settings, project=args.project)
    if args.action != "apply":
        tell_finished(workspace.recover())
    actions = {
        "show": _show,
        "critical": _critical,
        "impact": _impact,
        "plan": _plan,
        "announce": _announce,
        "check": _check,
        "apply": _apply,
    }
    return actions[args.action](workspace, args)


def _notes(model: PipelineModel) -> None:
    for note in model.notes:
        print(f"note: {note}")


def _show(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    model = workspace.model()
    graph = model.graph
    if args.json or args.format == "json":
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
    elif args.format == "mermaid":
        print(to_mermaid(graph), end="")
    elif args.format == "svg":
        path = [] if find_cycles(graph) else critical_path(graph, model.nodes).deployments
        print(to_svg(graph, path), end="")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(
            title=f"{len(graph.deployments)} deployments, {len(graph.datasets)} datasets", title_justify="left"
        )
        for heading in ("from", "", "to", "certainty", "evidence"):
            table.add_column(heading, overflow="fold")
        for edge in graph.edges:
            evidence = ", ".join(f"{item.kind} {item.where}".strip() for item in edge.evidence)
            table.add_row(edge.source, edge.kind, edge.target, f"{edge.certainty:g}", evidence)
        for edge in graph.overruled:
            table.add_row(edge.source, edge.kind, edge.target, "overruled", "contradicts a declaration", style="dim")
        Console().print(table)
        _notes(model)
    return 0


def _critical(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    model = workspace.model()
    path = critical_path(model.graph, model.nodes, args.to)
    rows = [(name, model.nodes[name].duration) for name in path.deployments if name in model.nodes]
    if args.json:
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


def _impact(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    model = workspace.model()
    delay_s = parse_span(args.late, what="--late")
    inventory = model.inventory
    delays = impact(model.graph, model.nodes, args.deployment, delay_s, inventory.prices, inventory.at_s)
    if args.json:
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


def _plan(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    graph = workspace.model(history=False).graph
    fresh = set(args.fresh)
    if args.batch is not None:
        fresh |= fresh_for(workspace.api, args.batch) & set(graph.datasets)
    names = refresh_plan(graph, args.dataset, fresh)
    if args.json:
        print_json({"dataset": args.dataset, "deployments": names, "fresh": sorted(fresh)})
        return 0
    for index, name in enumerate(names, 1):
        print(f"{index:3}. {name}")
    if not names:
        print("nothing to do")
    return 0


def _announce(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    held = workspace.api.call("GET", f"/flow_runs/{quote(args.flow_run)}", absent_ok=True)
    if held is None or held["deployment_id"] is None or held["state_type"] not in ("COMPLETED", "FAILED", "CRASHED"):
        raise InvalidInputError("flow run", args.flow_run, "must be an ended run of a deployment")
    node = workspace.model(history=False).nodes[workspace.server.deployment_name(held["deployment_id"])]
    fresh = held["state_type"] == "COMPLETED"
    found = emit_dataset_events(workspace.api, held, node.terms.outputs, batch_parameter(node), fresh=fresh)
    if args.json:
        print_json({"announced": found})
    else:
        print(f"announced {', '.join(found)}" if found else "nothing to announce")
    return 0


def _check(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    model = workspace.model()
    findings = find_conflicts(model.graph, overloaded_hours(model.graph, model.inventory), args.ignore)
    fixed: list[str] = []
    if args.fix and findings:
        file = args.project or workspace.folder / PROJECT_FILE
        with workspace.exclusive():
            for _ in range(_ROUNDS):  # a shifted producer may make its readers too early in turn
                done = apply_fixes(workspace.transactions, findings, file)
                if not done:
                    break
                fixed += done
                if file.is_file():
                    workspace = workspace.with_project(read_project(file.read_text(), file.name))
                model = workspace.model()
                findings = find_conflicts(model.graph, overloaded_hours(model.graph, model.inventory), args.ignore)
            workspace.publish(model)
    if args.json:
        print_json({"findings": [finding.to_dict() for finding in findings], "fixed": fixed})
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


def _apply(workspace: PipelineWorkspace, args: argparse.Namespace) -> int:
    if args.remove:
        with workspace.exclusive():
            changes = remove_all(workspace.transactions, write=args.yes)
        _report_changes(changes, args)
        return 0
    wait_s = None if args.wait is None else parse_span(args.wait, what="--wait")
    workspace = workspace.with_project(replace_wait_policy(workspace.project, wait_s, args.on_late))
    with workspace.exclusive() as finished:
        model = workspace.model(history=False)
        plan = plan_automations(workspace.server, model, workspace.clock.now_s(), prune=args.prune)
        published: list[str] = []
        if args.yes:
            apply_automations(workspace.transactions, plan)
            published = workspace.publish(model)
    if (args.wait or args.on_late) and not args.json:
        print(f"note: --wait and --on-late hold until the next command; to keep them, write them into {PROJECT_FILE}")
    if not args.json:
        tell_finished(finished)
        for note in plan.notes:
            print(f"note: {note}")
        for name in published:
            print(f"note: controllers now know the terms that {PROJECT_FILE} gives {name}")
    more = {"retired": plan.retired, "notes": plan.notes, "finished": finished, "published": published}
    _report_changes(plan.changes, args, more)
    return 0


def _report_changes(
    changes: Sequence[ResourceChange], args: argparse.Namespace, more: Mapping[str, Any] | None = None
) -> None:
    rows = [{"verb": change.verb, "resource": change.resource} for change in changes]
    if args.json:
        print_json({"changes": rows, "written": args.yes, **(more or {})})
        return
    for row in rows:
        print(f"{row['verb']:7} {row['resource']}")
    done = "written" if args.yes else "to write; nothing was written (add --yes)"
    print(f"{len(rows)} {done}" if rows else "nothing to do")

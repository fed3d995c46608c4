"""`graph apply`: write the automations that run the pipelines in order, and change nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.pipelines.automations import (
    Component,
    automations,
    components,
    generation_of,
    start_conditions,
)
from prefect_intelligent.pipelines.event_names import NO_PIPELINE
from prefect_intelligent.pipelines.ports import PipelineServer
from prefect_intelligent.pipelines.project_file import HOLD_S
from prefect_intelligent.pipelines.resource_changes import (
    AUTOMATION,
    DEPLOYMENT,
    EPOCHS,
    ResourceChange,
    ResourceContent,
    add_epoch,
    differences,
    epoch_at,
)
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.survey import Overrides, PipelineModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationPlan:
    """What `graph apply` would write.

    Attributes:
        components: The pipelines with their versions.
        changes: Changes to make; empty if Prefect is up to date.
        retired: Automations of earlier pipeline versions, kept for the batches that began under them.
        notes: Deployments that their inputs do not start, with the reason.
    """

    components: tuple[Component, ...]
    changes: tuple[ResourceChange, ...]
    retired: tuple[str, ...]
    notes: tuple[str, ...]


def current_overrides(transactions: Transactions) -> Overrides:
    """Return the overrides in force: those of the last intent that set any."""
    for record in reversed(transactions.intents()):
        if "overrides" in record["details"]:
            return Overrides.from_dict(record["details"]["overrides"])
    return Overrides()


def plan_automations(
    server: PipelineServer,
    model: PipelineModel,
    now_s: float,
    *,
    prune: bool = False,
    replaced: frozenset[str] = frozenset(),
) -> AutomationPlan:
    """Compare the automations that the graph needs with those on the server.

    Args:
        server: The Prefect server.
        model: The pipeline model.
        now_s: The present, Unix seconds.
        prune: Remove automations of earlier pipeline versions even if batches may still need them.
        replaced: Deployments whose code is about to change: their pipeline gets a new version.

    Raises:
        InvalidInputError: The graph has a cycle.
    """
    stored_automations = server.read_all(AUTOMATION)
    stored_epochs = server.read_all(EPOCHS)
    starts, notes = start_conditions(model.graph, model.nodes, model.project, model.overrides.parameters)
    starts = {name: start for name, start in starts.items() if name not in model.overrides.removed}
    in_force = {name.removeprefix(EPOCHS): epoch_at(value, now_s) for name, value in stored_epochs.items()}
    generations = {root: generation_of(label) for root, label in in_force.items() if label is not None}
    found = components(model.graph, starts, model.nodes, generations)
    if replaced:
        for component in found:
            if replaced & {*component.roots, *component.starts}:
                generations |= {root: generation_of(component.label) + 1 for root in component.roots}
        found = components(model.graph, starts, model.nodes, generations)
    wanted: dict[str, ResourceContent] = {}
    for component in found:
        wanted |= {AUTOMATION + name: spec for name, spec in automations(component).items()}
        for name in component.members:
            wanted[EPOCHS + name] = add_epoch(stored_epochs.get(EPOCHS + name), component.label, now_s)
    for name in stored_epochs.keys() - wanted.keys():  # batches in flight end under their version
        wanted[name] = add_epoch(stored_epochs[name], NO_PIPELINE, now_s)
    retired = []
    for name in sorted(stored_automations.keys() - wanted.keys()):
        if prune or _expired(name, stored_automations[name], stored_epochs, now_s, model):
            wanted[name] = None
        else:
            retired.append(name.removeprefix(AUTOMATION))
    changes = differences(wanted, {**stored_automations, **stored_epochs})
    # the epochs switch to the new version, so they are written after the automations and before any removal
    ordered = sorted(changes, key=lambda change: (change.after is None, change.resource.startswith(EPOCHS)))
    return AutomationPlan(
        components=tuple(found), changes=tuple(ordered), retired=tuple(retired), notes=(*model.notes, *notes)
    )


def _expired(
    name: str, spec: Mapping[str, Any], epochs: Mapping[str, Mapping[str, Any]], now_s: float, model: PipelineModel
) -> bool:
    """Return whether no batch can still need an automation of an earlier version."""
    if any(action.get("deployment") not in model.nodes for action in spec["actions"]):
        return True
    label = name.rpartition("[")[2].partition("]")[0]
    ended_s = None
    for value in epochs.values():
        since = value.get("epochs", [])
        ends = [float(at_s) for at_s, _ in since[1:]] + [now_s]
        for (_, epoch_label), end_s in zip(since, ends, strict=True):
            if epoch_label == label:
                ended_s = max(ended_s or 0.0, end_s)
    if ended_s is None:
        return True
    return now_s - ended_s > min(float(spec["trigger"].get("within") or HOLD_S), HOLD_S)


def apply_automations(
    transactions: Transactions, plan: AutomationPlan, details: Mapping[str, Any] | None = None
) -> int:
    """Write the changes of a plan in one transaction and return their number.

    Raises:
        ConflictError: Prefect rejected a change; all were taken back.
    """
    if plan.changes:
        transactions.commit("graph apply", plan.changes, details)
    return len(plan.changes)


def remove_all(transactions: Transactions, *, write: bool = True) -> tuple[ResourceChange, ...]:
    """Remove every automation and epoch of this product and return the changes; without `write` only return them."""
    stored = {**transactions.server.read_all(AUTOMATION), **transactions.server.read_all(EPOCHS)}
    changes = differences(dict.fromkeys(stored), stored)
    if changes and write:
        transactions.commit("graph apply --remove", changes)
    return changes


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineVersion:
    """One version of a pipeline.

    Attributes:
        label: Its name.
        since_s: When the first batch could begin under it, Unix seconds.
        title: The command that made it.
        deployments: Deployments of the pipeline.
        overrides: Overrides in force under it, as `Overrides.to_dict` gives them.
        replaced: Deployment whose code was replaced; None if none was.
        in_force: Whether batches begin under it now.
    """

    label: str
    since_s: float
    title: str
    deployments: tuple[str, ...]
    overrides: Mapping[str, Any]
    replaced: str | None
    in_force: bool


def pipeline_versions(transactions: Transactions) -> list[PipelineVersion]:
    """Return all versions of all pipelines, oldest first; a version that was restored appears twice."""
    stored = {name: value["epochs"][-1] for name, value in transactions.server.read_all(EPOCHS).items()}
    in_force: dict[str, str] = {}  # label by deployment, after the intents read so far
    found: list[PipelineVersion] = []
    for intent in transactions.intents():
        begun: dict[tuple[str, float], list[str]] = {}
        for change in intent["changes"]:
            if change["resource"].startswith(EPOCHS) and change["after"] is not None:
                since_s, label = change["after"]["epochs"][-1]
                begun.setdefault((str(label), float(since_s)), []).append(change["resource"])
                in_force[change["resource"].removeprefix(EPOCHS)] = str(label)
        if not begun and "overrides" in intent["details"]:  # only parameters of root deployments have changed
            for change in intent["changes"]:
                name = change["resource"].removeprefix(DEPLOYMENT)
                begun.setdefault((in_force.get(name, ""), float(intent.get("at_s", 0.0))), []).append(EPOCHS + name)
        for (label, since_s), names in sorted(begun.items()):
            found.append(
                PipelineVersion(
                    label=label,
                    since_s=since_s,
                    title=str(intent["title"]),
                    deployments=tuple(sorted(name.removeprefix(EPOCHS) for name in names)),
                    overrides=intent["details"].get("overrides", {}),
                    replaced=intent["details"].get("replaced"),
                    in_force=any(stored.get(name, [0.0, None])[1] == label for name in names),
                )
            )
    return found

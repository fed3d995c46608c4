"""Changing a pipeline while it runs: steps removed, added, re-routed, replaced; batches in flight end as they began.

A modification makes a new pipeline version. Its automations are written first, beside those of the version in force;
then every root's epochs say from when batches begin under it. A batch keeps the version under which it began: the
events of its datasets carry that version's name, and only that version's automations look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.pipelines.apply_graph import AutomationPlan, current_overrides, plan_automations
from prefect_intelligent.pipelines.conflicts import Finding, find_conflicts
from prefect_intelligent.pipelines.conflicts.schema_contracts import parameter_errors
from prefect_intelligent.pipelines.graph import find_cycles
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, ResourceChange
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.survey import Overrides, PipelineModel
from prefect_intelligent.pipelines.version import DeploymentVersion, pull_inputs

ModelBuilder = Callable[[Overrides], PipelineModel]
"""Draws the graph as it would be with these overrides."""

MODIFY = "modify"
UNDO = "modify undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """What a modification would do.

    Attributes:
        overrides: All overrides afterwards.
        arrangement: Automations and epochs.
        changes: Everything that is written, in order.
        findings: Conflicts that it brings and that were not there before.
    """

    overrides: Overrides
    arrangement: AutomationPlan
    changes: tuple[ResourceChange, ...]
    findings: tuple[Finding, ...]


def prepare_modification(
    rollout: Rollout, draw: ModelBuilder, overrides: Overrides, replacement: DeploymentVersion | None = None
) -> Modification:
    """Work out a modification and check it; nothing is written.

    Args:
        rollout: Where.
        draw: Draws the graph.
        overrides: All overrides afterwards.
        replacement: New version of one step.

    Raises:
        InvalidInputError: It would make a cycle, or the step cannot be replaced for the next batch only.
        UnknownNameError: It names a deployment that does not exist.
    """
    held = current_overrides(rollout.transactions)
    before = draw(held)
    for name in (*overrides.removed, *overrides.terms, *overrides.parameters):
        if name not in before.steps:
            raise UnknownNameError("deployment", name, before.steps)
    for name, given in overrides.parameters.items():
        wrong = (
            parameter_errors(before.steps[name].schema or {}, given, complete=False) if _news(held, name, given) else []
        )
        if wrong and before.steps[name].schema is not None:
            raise InvalidInputError(f"parameters of {name}", dict(given), "; ".join(wrong))
    scheduled = {name for name in overrides.removed - held.removed if before.steps[name].active_schedules}
    overrides = replace(overrides, paused=(held.paused & overrides.removed) | scheduled)
    after = draw(overrides)
    if found := find_cycles(after.graph):
        raise InvalidInputError("modification", " -> ".join(found[0]), "this cycle would be made")
    known = {(finding.rule, finding.subjects) for finding in find_conflicts(before.graph, before.inventory)}
    fresh = [f for f in find_conflicts(after.graph, after.inventory) if (f.rule, f.subjects) not in known]
    now_s = rollout.transactions.clock.now_s()
    replaced = frozenset({replacement.deployment}) if replacement is not None else frozenset()
    arrangement = plan_automations(rollout.server, after, now_s, replaced=replaced)
    overrides, own = _own_settings(rollout, arrangement, held, overrides)
    changes = [*arrangement.changes, *own]
    if replacement is not None:
        # the code first: batches of the version in force keep theirs by name, later ones need the new one
        changes.insert(0, _replace(rollout, arrangement, replacement, now_s))
    return Modification(overrides=overrides, arrangement=arrangement, changes=tuple(changes), findings=tuple(fresh))


def _news(held: Overrides, name: str, given: Mapping[str, Any]) -> bool:
    return dict(held.parameters.get(name, {})) != dict(given)


def _own_settings(
    rollout: Rollout, arrangement: AutomationPlan, held: Overrides, wanted: Overrides
) -> tuple[Overrides, list[ResourceChange]]:
    """What no automation can say: schedules of removed steps, and parameters of steps that begin batches."""
    started = {name for component in arrangement.components for name in component.starts}
    mine = {name for name in wanted.parameters if name not in started | wanted.removed}
    own: dict[str, Mapping[str, Any]] = {}
    changes = []
    for name in sorted({*held.paused, *wanted.paused, *mine, *held.own}):
        content = rollout.held(name)
        if content is None:
            continue
        after = dict(content)
        if (name in wanted.paused) != (name in held.paused):
            after["paused"] = name in wanted.paused
        if name in mine:
            own[name] = held.own.get(name, content["parameters"] or {})
            after["parameters"] = {**own[name], **wanted.parameters[name]}
        elif name in held.own:
            after["parameters"] = dict(held.own[name])
        if after != content:
            changes.append(ResourceChange(resource=DEPLOYMENT + name, before=content, after=after))
    return replace(wanted, own=own), changes


def apply_modification(
    rollout: Rollout, modification: Modification, title: str = MODIFY, version: DeploymentVersion | None = None
) -> None:
    """Write a modification as one; none of it holds if Prefect refuses a part."""
    details: dict[str, Any] = {"overrides": modification.overrides.to_dict()}
    if version is not None:
        details["version"] = version.id
        details["replaced"] = version.deployment
    rollout.transactions.commit(title, modification.changes, details)


def _replace(rollout: Rollout, arrangement: AutomationPlan, version: DeploymentVersion, now_s: float) -> ResourceChange:
    """The step's new version for later batches, the one in force for those that have begun."""
    rollout.versions.check(version)
    held = rollout.held(version.deployment)
    inputs = None if held is None else pull_inputs(held)
    if held is None or inputs is None:
        raise InvalidInputError("modify replace", version.deployment, "deploy it once with `deploy` before")
    if held["entrypoint"] != version.spec.get("entrypoint"):
        raise InvalidInputError("modify replace", version.spec.get("entrypoint"), f"must stay {held['entrypoint']}")
    under = dict(inputs.get("under") or {})
    for component in arrangement.components:
        if version.deployment in component.starts or version.deployment in component.roots:
            for label in _labels_in_force(rollout, component.roots, component.label):
                under.setdefault(label, str(inputs["version"]))
    content = version.render(rollout.store, under=under)
    return ResourceChange(resource=DEPLOYMENT + version.deployment, before=held, after=content)


def _labels_in_force(rollout: Rollout, roots: tuple[str, ...], new: str) -> set[str]:
    """Pipeline versions under which batches may still be in flight."""
    found: set[str] = set()
    for root in roots:
        held = rollout.server.read(f"epochs:{root}") or {}
        found.update(str(label) for _, label in held.get("epochs", []) if label != new)
    return found


def prepare_undo(rollout: Rollout, draw: ModelBuilder) -> tuple[Modification, DeploymentVersion | None]:
    """The modification that takes the last one back, for the batches to come.

    Raises:
        InvalidInputError: There is none to take back.
    """
    intents = rollout.transactions.intents()
    history = [record for record in intents if record["title"] in (MODIFY, UNDO) and "overrides" in record["details"]]
    undone = 0
    for index in range(len(history) - 1, -1, -1):
        if history[index]["title"] == UNDO:
            undone += 1
        elif undone:
            undone -= 1
        else:
            before = history[:index]
            overrides = Overrides.from_dict(before[-1]["details"]["overrides"]) if before else Overrides()
            return _undo_one(rollout, draw, overrides, history[index])
    raise InvalidInputError("modify undo", None, "there is no modification to take back")


def _undo_one(
    rollout: Rollout, draw: ModelBuilder, overrides: Overrides, intent: Mapping[str, Any]
) -> tuple[Modification, DeploymentVersion | None]:
    name = intent["details"].get("replaced")
    replaced = next((c for c in intent["changes"] if c["resource"] == f"{DEPLOYMENT}{name}"), None)
    version = None
    if replaced is not None and isinstance(replaced["before"], dict):
        inputs = pull_inputs(replaced["before"])
        if inputs is not None:
            version = rollout.versions.get(str(inputs["version"]))
    return prepare_modification(rollout, draw, overrides, version), version

"""Change a pipeline while it runs: remove, add, re-route or replace deployments. Batches in flight are not affected.

A modification makes a new pipeline version. Its automations are written first, beside those of the version in force;
then the epochs of every root say since when batches begin under it. A batch keeps the version under which it began: the
events of its datasets carry the label of that version, and only that version's automations match them.
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
"""Returns the pipeline model with the given overrides."""

MODIFY = "modify"
UNDO = "modify undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modification:
    """What a modification would write.

    Attributes:
        overrides: All overrides afterwards.
        plan: Automations and epochs.
        changes: All changes, in the order in which they are written.
        findings: New conflicts that it causes.
    """

    overrides: Overrides
    plan: AutomationPlan
    changes: tuple[ResourceChange, ...]
    findings: tuple[Finding, ...]


def prepare_modification(
    rollout: Rollout, build_model: ModelBuilder, overrides: Overrides, replacement: DeploymentVersion | None = None
) -> Modification:
    """Compute and check a modification; nothing is written.

    Args:
        rollout: Access to the server and the versions.
        build_model: Returns the pipeline model with given overrides.
        overrides: All overrides afterwards.
        replacement: New version of one deployment.

    Raises:
        InvalidInputError: It would make a cycle, or the deployment cannot be replaced for the next batch only.
        UnknownNameError: It names a deployment that does not exist.
    """
    current = current_overrides(rollout.transactions)
    before = build_model(current)
    for name in (*overrides.removed, *overrides.terms, *overrides.parameters):
        if name not in before.nodes:
            raise UnknownNameError("deployment", name, before.nodes)
    for name, given in overrides.parameters.items():
        schema = before.nodes[name].schema
        if schema is None or dict(current.parameters.get(name, {})) == dict(given):
            continue
        if errors := parameter_errors(schema, given, complete=False):
            raise InvalidInputError(f"parameters of {name}", dict(given), "; ".join(errors))
    scheduled = {name for name in overrides.removed - current.removed if before.nodes[name].active_schedules}
    overrides = replace(overrides, paused=(current.paused & overrides.removed) | scheduled)
    after = build_model(overrides)
    if found := find_cycles(after.graph):
        raise InvalidInputError("modification", " -> ".join(found[0]), "this cycle would be made")
    known = {(finding.rule, finding.subjects) for finding in find_conflicts(before.graph, before.inventory)}
    new_findings = [f for f in find_conflicts(after.graph, after.inventory) if (f.rule, f.subjects) not in known]
    now_s = rollout.transactions.clock.now_s()
    replaced = frozenset({replacement.deployment}) if replacement is not None else frozenset()
    plan = plan_automations(rollout.server, after, now_s, replaced=replaced)
    overrides, deployment_changes = _deployment_changes(rollout, plan, current, overrides)
    changes = [*plan.changes, *deployment_changes]
    if replacement is not None:
        # first: batches in flight keep their code by the name of its version, later batches need the new code
        changes.insert(0, _replace(rollout, plan, replacement, now_s))
    return Modification(overrides=overrides, plan=plan, changes=tuple(changes), findings=tuple(new_findings))


def _deployment_changes(
    rollout: Rollout, plan: AutomationPlan, current: Overrides, wanted: Overrides
) -> tuple[Overrides, list[ResourceChange]]:
    """Return changes that automations cannot make: schedules of removed deployments, parameters of root deployments."""
    started = {name for component in plan.components for name in component.starts}
    roots = {name for name in wanted.parameters if name not in started | wanted.removed}
    original: dict[str, Mapping[str, Any]] = {}
    changes = []
    for name in sorted({*current.paused, *wanted.paused, *roots, *current.original_parameters}):
        content = rollout.stored(name)
        if content is None:
            continue
        after = dict(content)
        if (name in wanted.paused) != (name in current.paused):
            after["paused"] = name in wanted.paused
        own = _owners_parameters(current, name, content["parameters"] or {})
        if name in roots:
            original[name] = own
            after["parameters"] = {**own, **wanted.parameters[name]}
        elif name in current.original_parameters:
            after["parameters"] = dict(own)
        if after != content:
            changes.append(ResourceChange(resource=DEPLOYMENT + name, before=content, after=after))
    return replace(wanted, original_parameters=original), changes


def _owners_parameters(current: Overrides, name: str, now: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters that the owner of a deployment has set, also after the last modification."""
    original = current.original_parameters.get(name)
    if original is None or now != {**original, **current.parameters.get(name, {})}:
        return now
    return original


def apply_modification(
    rollout: Rollout, modification: Modification, title: str = MODIFY, version: DeploymentVersion | None = None
) -> None:
    """Write a modification in one transaction; if Prefect rejects a part, all of it is taken back."""
    details: dict[str, Any] = {"overrides": modification.overrides.to_dict()}
    if version is not None:
        details["version"] = version.id
        details["replaced"] = version.deployment
    rollout.transactions.commit(title, modification.changes, details)


def _replace(rollout: Rollout, plan: AutomationPlan, version: DeploymentVersion, now_s: float) -> ResourceChange:
    """Return the change to a new version for later batches; batches in flight keep the version in force."""
    rollout.versions.check(version)
    current = rollout.stored(version.deployment)
    inputs = None if current is None else pull_inputs(current)
    if current is None or inputs is None:
        raise InvalidInputError("modify replace", version.deployment, "deploy it once with `deploy` before")
    if current["entrypoint"] != version.spec.get("entrypoint"):
        raise InvalidInputError("modify replace", version.spec.get("entrypoint"), f"must stay {current['entrypoint']}")
    under = dict(inputs.get("under") or {})
    for component in plan.components:
        if version.deployment in component.starts or version.deployment in component.roots:
            for label in _labels_in_force(rollout, component.roots, component.label):
                under.setdefault(label, str(inputs["version"]))
    content = version.render(rollout.store, under=under)
    return ResourceChange(resource=DEPLOYMENT + version.deployment, before=current, after=content)


def _labels_in_force(rollout: Rollout, roots: tuple[str, ...], new: str) -> set[str]:
    """Return pipeline versions under which batches may still be in flight."""
    found: set[str] = set()
    for root in roots:
        current = rollout.server.read(f"epochs:{root}") or {}
        found.update(str(label) for _, label in current.get("epochs", []) if label != new)
    return found


def prepare_undo(rollout: Rollout, build_model: ModelBuilder) -> tuple[Modification, DeploymentVersion | None]:
    """Compute the modification that reverts the last one for later batches, and the version that it replaces, if any.

    Raises:
        InvalidInputError: There is none to revert.
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
            return _undo_one(rollout, build_model, overrides, history[index])
    raise InvalidInputError("modify undo", None, "there is no modification to take back")


def _undo_one(
    rollout: Rollout, build_model: ModelBuilder, overrides: Overrides, intent: Mapping[str, Any]
) -> tuple[Modification, DeploymentVersion | None]:
    name = intent["details"].get("replaced")
    replaced = next((c for c in intent["changes"] if c["resource"] == f"{DEPLOYMENT}{name}"), None)
    version = None
    if replaced is not None and isinstance(replaced["before"], dict):
        inputs = pull_inputs(replaced["before"])
        if inputs is not None:
            version = rollout.versions.get(str(inputs["version"]))
    return prepare_modification(rollout, build_model, overrides, version), version

"""Making a version of a deployment from a source folder, and checking it before anything is written."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.adapters.contract_columns import read_promises
from prefect_intelligent.pipelines.adapters.flow_probe import environment_lock, probe
from prefect_intelligent.pipelines.adapters.prefect_discovery import read_schedule
from prefect_intelligent.pipelines.adapters.source_archive import files_of, pack
from prefect_intelligent.pipelines.adapters.source_diff import file_diff, package_diff
from prefect_intelligent.pipelines.conflicts import Finding, find_conflicts
from prefect_intelligent.pipelines.conflicts.schema_contracts import parameter_errors
from prefect_intelligent.pipelines.deployments import DeploymentNode
from prefect_intelligent.pipelines.graph import build_graph
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.survey import PipelineModel, declared_edges
from prefect_intelligent.pipelines.version import DeploymentVersion, SourceCode
from prefect_intelligent.wiring.pipelines import PipelineWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a version is made from.

    Attributes:
        entrypoint: "FILE.py:FLOW" relative to `source`.
        name: Name of the deployment.
        source: Folder whose files are the version's code.
        pool: Work pool; that of the deployment if None.
        queue: Work queue; that of the deployment if None.
        parameters: Default parameters to set.
        job_variables: Job variables to set.
        crons: Cron schedules that replace those of the deployment; None leaves them.
        limit: Concurrency limit to set; None leaves it.
        allow_dirty: Take uncommitted changes too, and record them.
    """

    entrypoint: str
    name: str
    source: Path
    pool: str | None = None
    queue: str | None = None
    parameters: Mapping[str, Any] | None = None
    job_variables: Mapping[str, Any] | None = None
    crons: Sequence[str] | None = None
    limit: int | None = None
    allow_dirty: bool = False


def make_version(workspace: PipelineWorkspace, request: Request) -> DeploymentVersion:
    """Pack the source, import the flow from it, and make the version; nothing is written to Prefect.

    Raises:
        InvalidInputError: There are uncommitted changes, the flow cannot be imported, or a new deployment has no pool.
    """
    tree = pack(request.source)
    if tree.changes and not request.allow_dirty:
        first = tree.changes.splitlines()[0].strip()
        raise InvalidInputError(
            "--source", first, "there are uncommitted changes: commit them, or --allow-dirty records the diff"
        )
    flow = probe(tree.archive, request.entrypoint)
    deployment = f"{flow.name}/{request.name}"
    held = workspace.server.read(DEPLOYMENT + deployment) or {}
    pool = request.pool or held.get("work_pool_name")
    if pool is None:
        raise InvalidInputError("--pool", None, f"{deployment} does not exist yet: name its work pool")
    schedules = held.get("schedules", [])
    if request.crons is not None:
        schedules = [
            {
                "schedule": {"cron": cron, "timezone": "UTC", "day_or": True},
                "active": True,
                "max_scheduled_runs": None,
                "parameters": {},
                "slug": None,
            }
            for cron in request.crons
        ]
    spec = {
        "description": held.get("description") or flow.description,
        "paused": held.get("paused", False),
        "tags": held.get("tags", []),
        "parameters": {**(held.get("parameters") or {}), **(request.parameters or {})},
        "parameter_openapi_schema": flow.schema,
        "enforce_parameter_schema": held.get("enforce_parameter_schema", True),
        "job_variables": {**(held.get("job_variables") or {}), **(request.job_variables or {})},
        "path": None,
        "entrypoint": request.entrypoint,
        "work_pool_name": pool,
        "work_queue_name": request.queue or held.get("work_queue_name") or "default",
        "concurrency_options": held.get("concurrency_options"),
        "concurrency_limit": request.limit if request.limit is not None else held.get("concurrency_limit"),
        "schedules": schedules,
    }
    terms = flow.terms or {}
    contract = None
    if terms.get("contract") and (request.source / terms["contract"]).is_file():
        contract = (request.source / terms["contract"]).read_text()
    current = workspace.versions.current(deployment, held or None)
    blobs = workspace.blobs
    return DeploymentVersion(
        deployment=deployment,
        spec=json.loads(json.dumps(spec)),
        code=SourceCode(
            blob=blobs.put(tree.archive),
            commit=tree.commit,
            changes=blobs.put(tree.changes.encode()) if tree.changes else None,
        ),
        terms=terms,
        contract=contract,
        lock=blobs.put(environment_lock().encode()),
        author=getpass.getuser(),
        parent=None if current is None else current.id,
    )


def new_findings(model: PipelineModel, version: DeploymentVersion) -> list[Finding]:
    """Conflicts that a version would bring: graph, schedules, parameters of everything that starts it, contract.

    A deployment that does not exist yet may come before the producers of what it reads.
    """
    name = version.deployment
    before = {(finding.rule, finding.subjects) for finding in find_conflicts(model.graph, model.inventory)}
    nodes = dict(model.nodes)
    held = nodes.get(name) or DeploymentNode(name=name)
    terms = model.project.terms_of(name, Terms.from_dict(version.terms)) if version.terms else held.terms
    promises = dict(held.promises)
    if version.contract is not None and terms.outputs:
        promises |= read_promises(version.contract, str(terms.contract), terms.outputs)
    spec = version.spec
    nodes[name] = replace(
        held,
        terms=terms,
        schema=version.spec["parameter_openapi_schema"],
        parameters=version.spec["parameters"],
        limit=version.spec["concurrency_limit"],
        pool=version.spec["work_pool_name"],
        queue=version.spec["work_queue_name"],
        promises=promises,
        schedules=tuple(read_schedule(schedule) for schedule in spec["schedules"]),
        paused=bool(spec["paused"]),
        job_variables=spec["job_variables"],
    )
    inferred = [edge for edge in model.graph.edges if not edge.declared]
    graph = build_graph([*inferred, *declared_edges(nodes)], nodes)
    found = find_conflicts(graph, replace(model.inventory, nodes=nodes))
    early = frozenset() if name in model.nodes else frozenset({"missing-producer"})
    fresh = [f for f in found if (f.rule, f.subjects) not in before and f.rule not in early]
    wrong = parameter_errors(spec["parameter_openapi_schema"], spec["parameters"], complete=False)
    if wrong:
        defaults = Finding(
            rule="parameter-break",
            subjects=(name,),
            evidence=f"the default parameters of {name} do not fit its flow: {'; '.join(wrong)}",
            advice="set them with --param, or remove them from the deployment",
        )
        fresh.append(defaults)
    return fresh


def content_difference(
    workspace: PipelineWorkspace, old: DeploymentVersion, new: DeploymentVersion
) -> tuple[list[str], list[str]]:
    """Lines on what differs in packages and in source files; none where one version has no record of them."""
    blobs = workspace.blobs
    packages: list[str] = []
    files: list[str] = []
    if old.lock and new.lock and old.lock != new.lock:
        packages = package_diff(blobs.get(old.lock).decode(), blobs.get(new.lock).decode())
    if old.code is not None and new.code is not None and old.code.blob != new.code.blob:
        files = file_diff(files_of(blobs.get(old.code.blob)), files_of(blobs.get(new.code.blob)))
    return packages, files

"""Workflows: tasks with parents, as recorded by the Workflow Trace Archive, WfCommons and Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError
from simulations.traces.files import load_json, load_yaml, numbered_objects
from simulations.traces.trace import Trace, TraceBuilder, first_key


def read_wta(path: Path) -> Trace:
    """Workflow Trace Archive: a Parquet file of tasks, or a folder of them; times in milliseconds.

    Raises:
        InvalidInputError: It is not Parquet or lacks a column.
    """
    try:
        tasks = pd.read_parquet(path)
    except Exception as error:
        raise InvalidInputError("trace", str(path), f"is not a Parquet file of tasks ({error})") from error
    missing = {"id", "workflow_id", "ts_submit", "runtime", "parents"} - set(tasks)
    if missing:
        raise InvalidInputError("trace", str(path), f"lacks the columns {', '.join(sorted(missing))} of a task")
    builder = TraceBuilder(path, "wta")
    columns: list[list[Any]] = [
        tasks[name].tolist() for name in ("id", "workflow_id", "ts_submit", "runtime", "parents")
    ]
    for number, task in enumerate(zip(*columns, strict=True), start=1):
        builder.attempt(number, partial(_wta_task, *task))
    return builder.build()


def _wta_task(name: Any, workflow: Any, submit_ms: Any, runtime_ms: Any, parents: Any) -> Iterator[dict[str, Any]]:
    yield {
        "id": str(name),
        "workflow": str(workflow),
        "submit_s": float(submit_ms) / 1000.0,
        "duration_s": float(runtime_ms) / 1000.0,
        "parents": tuple(str(parent) for parent in parents),
    }


def read_wfformat(path: Path) -> Trace:
    """WfCommons WfFormat, schema 1.3 to 1.5: one executed workflow, without arrivals.

    Raises:
        InvalidInputError: It is not a WfFormat document.
    """
    document = load_json(path)
    workflow = document.get("workflow") if isinstance(document, dict) else None
    if not isinstance(workflow, dict):
        raise InvalidInputError("trace", str(path), "is not WfFormat: it has no 'workflow'")
    specified = workflow.get("specification", workflow).get("tasks", [])
    executed = {str(first_key(t, ("id", "name"))): t for t in workflow.get("execution", {}).get("tasks", [])}
    builder = TraceBuilder(path, "wfformat")
    named = str(document.get("name", path.stem))
    for number, task in enumerate(specified, start=1):
        builder.attempt(number, partial(_wfformat_task, task, executed, named))
    return builder.build()


def _wfformat_task(
    task: Mapping[str, Any], executed: Mapping[str, Mapping[str, Any]], workflow: str
) -> Iterator[dict[str, Any]]:
    name = str(first_key(task, ("id", "name")))
    runtime = first_key({**task, **executed.get(name, {})}, ("runtimeInSeconds", "runtime"))
    if runtime is None:
        raise ValueError(f"task {name!r} has no runtime")
    yield {
        "id": name,
        "workflow": workflow,
        "deployment": str(task.get("name", name)),
        "duration_s": runtime,
        "parents": tuple(str(parent) for parent in task.get("parents", [])),
    }


def read_dag_lines(path: Path) -> Trace:
    """One workflow a line: `{"name", "runtimes", "names", "parents"}` with parents as indexes; no arrivals."""
    builder = TraceBuilder(path, "dag-lines")
    for number, dag in numbered_objects(path):
        if dag is None or not {"name", "runtimes", "names", "parents"} <= dag.keys():
            builder.reject(number, "is not an object with name, runtimes, names and parents")
            continue
        builder.attempt(number, partial(_dag_tasks, number, dag))
    return builder.build()


def _dag_tasks(number: int, dag: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if not len(dag["runtimes"]) == len(dag["names"]) == len(dag["parents"]):
        raise ValueError("runtimes, names and parents differ in length")
    for task, (runtime, name, parents) in enumerate(zip(dag["runtimes"], dag["names"], dag["parents"], strict=True)):
        yield {
            "id": f"{number}/{task}",
            "workflow": f"{number}/{dag['name']}",
            "deployment": f"{dag['name'].rsplit('/', 1)[0]}/{name}",
            "duration_s": runtime,
            "parents": tuple(f"{number}/{parent}" for parent in parents),
        }


def read_kubeflow(path: Path) -> Trace:
    """Kubeflow Pipelines: the run export (JSON) beside the compiled pipeline (IR YAML) of the same name.

    `path` may be either file; the other has the same stem. The pipeline gives the dependencies, the run the times.

    Raises:
        InvalidInputError: One of the two is missing or is not what it should be.
    """
    pipeline, run = path.with_suffix(".yaml"), path.with_suffix(".json")
    for file in (pipeline, run):
        if not file.is_file():
            raise InvalidInputError(
                "trace",
                str(path),
                f"a Kubeflow trace is a pipeline (.yaml) and its run (.json); {file.name} is missing",
            )
    waits = dict(_kubeflow_tasks(pipeline))
    exported = load_json(run)
    details = first_key(exported, ("run_details", "runDetails")) if isinstance(exported, dict) else None
    if not isinstance(details, dict):
        raise InvalidInputError("trace", str(run), "is not an exported run: it has no 'run_details'")
    builder = TraceBuilder(run, "kubeflow")
    run_id = str(first_key(exported, ("run_id", "runId")) or run.stem)
    for number, task in enumerate(first_key(details, ("task_details", "taskDetails")) or [], start=1):
        builder.attempt(number, partial(_kubeflow_task, task, waits, run_id))
    return builder.build()


def _kubeflow_task(
    task: Mapping[str, Any], waits: Mapping[str, Sequence[str]], run_id: str
) -> Iterator[dict[str, Any]]:
    name = first_key(task, ("display_name", "displayName"))
    if name not in waits:
        return  # drivers and executors are parts of a task, not tasks
    created, started, ended = (
        unix_s(first_key(task, keys))
        for keys in (("create_time", "createTime"), ("start_time", "startTime"), ("end_time", "endTime"))
    )
    yield {
        "id": name,
        "workflow": run_id,
        "deployment": name,
        "submit_s": created,
        "wait_s": max(0.0, started - created),
        "duration_s": ended - started,
        "failed": task.get("state") in ("FAILED", "ERROR"),
        "parents": tuple(waits[name]),
    }


def _kubeflow_tasks(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Tasks of a compiled pipeline with the tasks they wait for, by `dependentTasks` and by the outputs they read.

    Raises:
        InvalidInputError: There is no pipeline in the file.
    """
    for document in load_yaml(path):
        root = document.get("root", {}) if isinstance(document, Mapping) else {}
        tasks: Mapping[str, Any] = root.get("dag", {}).get("tasks", {})
        if not tasks:
            continue
        shown = {key: task.get("taskInfo", {}).get("name", key) for key, task in tasks.items()}
        for key, task in tasks.items():
            waits = set(task.get("dependentTasks", []))
            for kind in ("parameters", "artifacts"):
                for given in task.get("inputs", {}).get(kind, {}).values():
                    source = given.get("taskOutputParameter") or given.get("taskOutputArtifact") or {}
                    if "producerTask" in source:
                        waits.add(source["producerTask"])
            yield shown[key], sorted(shown.get(each, each) for each in waits)
        return
    raise InvalidInputError("trace", str(path), "is not a compiled pipeline: it has no root.dag.tasks")

"""Tables of jobs: the Standard Workload Format and CSV files with a header."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from simulations.traces.files import UNREADABLE, numbered_rows, open_text
from simulations.traces.trace import Trace, TraceBuilder

SWF_FIELDS: Final = 18
"""Fields of a line: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html"""


def read_swf(path: Path) -> Trace:
    """Standard Workload Format: 18 numbers a line, `;` starts a comment, -1 is unknown."""
    builder = TraceBuilder(path, "swf")
    with open_text(path, "replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words or words[0].startswith(";"):
                continue
            if len(words) != SWF_FIELDS:
                builder.reject(number, f"has {len(words)} fields instead of {SWF_FIELDS}")
                continue
            if UNREADABLE in words[0]:
                builder.reject(number, "is not UTF-8")
                continue
            builder.attempt(number, partial(_swf_job, words))
    return builder.build()


def _swf_job(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    value = [float(word) for word in words]
    yield {
        "id": words[0],
        "submit_s": value[1],
        "wait_s": _known(value[2]),
        "duration_s": value[3],
        "slots": int(max(1, value[4] if value[4] > 0 else value[7])),
        "estimate_s": _known(value[8]),
        "failed": {1.0: False, 0.0: True, 5.0: True}.get(value[10]),
        "deployment": f"user-{int(value[11])}-exe-{int(value[13])}",
        "queue": f"queue-{int(value[14])}",
    }


def _known(value: float) -> float:
    """The value, NaN where SWF writes -1."""
    return math.nan if value < 0 else value


Row = Mapping[str, str]


def _jobs(row: Row) -> dict[str, Any]:
    """Jobs with the columns of SWF, named."""
    return {
        "id": row["job"],
        "submit_s": float(row["submit"]),
        "wait_s": _known(float(row["wait"])),
        "duration_s": float(row["run"]),
        "estimate_s": _known(float(row["reqtime"])),
        "slots": max(1, int(row["procs"])),
        "failed": {"1": False, "0": True}.get(row["status"]),
        "deployment": f"user-{row['user']}",
        "queue": f"request-{row['reqtime']}",
    }


def _surf(row: Row) -> dict[str, Any]:
    return {"id": row["id"], "submit_s": float(row["submit_s"]), "duration_s": float(row["run_s"])}


def _clusters(row: Row) -> dict[str, Any]:
    """Jobs of several virtual clusters: one queue each."""
    return {
        "submit_s": float(row["submit_s"]),
        "duration_s": float(row["duration"]),
        "slots": max(1, int(row["num_gpus"])),
        "queue": row["cluster"],
        "deployment": row["cluster"],
    }


def _pods(row: Row) -> dict[str, Any]:
    """Pods of a cluster. One that was never placed has no duration; `Running` ones had not ended when recorded."""
    created, placed = float(row["creation_time"]), float(row["scheduled_time"] or "nan")
    return {
        "id": row["name"],
        "submit_s": created,
        "wait_s": placed - created,
        "duration_s": float(row["deletion_time"]) - placed,
        "queue": row["qos"],
        "deployment": row["qos"],
        "failed": {"Succeeded": False, "Failed": True}.get(row["pod_phase"]),
    }


def _chains(row: Row) -> dict[str, Any]:
    """Tasks of short pipelines, times in milliseconds (Workflow Trace Archive)."""
    return {
        "id": row["id"],
        "workflow": row["workflow_id"],
        "submit_s": float(row["ts_submit"]) / 1000.0,
        "duration_s": float(row["runtime"]) / 1000.0,
        "parents": tuple(row["parents"].split()),
    }


_READERS: Final[dict[str, Callable[[Row], dict[str, Any]]]] = {
    "job,submit,wait,run,procs,reqtime,status,user,group,exe,queue,partition": _jobs,
    "id,submit_s,run_s,cpu_count": _surf,
    "submit_s,duration,num_gpus,cluster": _clusters,
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time": _pods,
    "id,workflow_id,ts_submit,runtime,parents": _chains,
}


def known_headers() -> Iterator[str]:
    """Header lines of the CSV files that can be read."""
    yield from _READERS


def read_csv(path: Path, header: str) -> Trace:
    """A CSV file with one of the known headers."""
    builder = TraceBuilder(path, "csv")
    read = _READERS[header]
    for number, row in numbered_rows(path):
        if row is None:
            builder.reject(number, "has another number of fields than the header, or is not UTF-8")
            continue
        builder.attempt(number, partial(_csv_run, read, number, row))
    return builder.build()


def _csv_run(read: Callable[[Row], dict[str, Any]], number: int, row: Row) -> Iterator[dict[str, Any]]:
    yield {"id": f"line-{number}", **read(row)}

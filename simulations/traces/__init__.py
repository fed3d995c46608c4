"""Reads recorded workloads; `read_trace(path)` detects the format of the file.

Read first:
    trace.py          the result: one row per run, and every line that could not be read
    tables.py         readers of tables of jobs, SWF and CSV
    orchestrators.py  readers of the exports of Prefect and Airflow

Ports: none
Command: `python -m simulations.traces FILE`
How-to: none, the reference is docs/reference/traces.md
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from simulations.traces.files import head
from simulations.traces.orchestrators import read_airflow, read_prefect
from simulations.traces.tables import SWF_FIELDS, known_headers, read_csv, read_swf
from simulations.traces.trace import COLUMNS, Problem, Trace
from simulations.traces.workflows import read_dag_lines, read_kubeflow, read_wfformat, read_wta

__all__ = ["COLUMNS", "FORMATS", "Problem", "Trace", "detect_format", "read_trace"]


def _read_known_csv(path: Path) -> Trace:
    header = head(path).split("\n", 1)[0].strip()
    if header not in known_headers():
        raise InvalidInputError(f"header of {path}", header[:80], "is none of those in docs/reference/traces.md")
    return read_csv(path, header)


FORMATS: Final[dict[str, Callable[[Path], Trace]]] = {
    "swf": read_swf,
    "csv": _read_known_csv,
    "wta": read_wta,
    "wfformat": read_wfformat,
    "dag-lines": read_dag_lines,
    "prefect": read_prefect,
    "airflow": read_airflow,
    "kubeflow": read_kubeflow,
}
"""Format to reader."""


def read_trace(path: Path, format: str | None = None) -> Trace:
    """Read a recorded workload.

    Args:
        path: The file (for the Workflow Trace Archive also a folder).
        format: One of `FORMATS`; None detects it.

    Raises:
        InvalidInputError: The file does not exist, has no known format, holds no run, or its dependencies have a cycle.
        UnknownNameError: There is no such format.
    """
    if format is not None and format not in FORMATS:
        raise UnknownNameError("trace format", format, FORMATS)
    name = format or detect_format(path)
    try:
        return FORMATS[name](path)
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise InvalidInputError("trace", str(path), f"is damaged or cut off ({error})") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            "trace", str(path), f"is not what {name!r} should be: a part of it is of the wrong kind ({error})"
        ) from error


def detect_format(path: Path) -> str:
    """Detect the format of a trace from its name and first characters.

    Raises:
        InvalidInputError: It has none of the known formats.
    """
    if path.is_dir() or path.suffix == ".parquet":
        return "wta"
    start = head(path)
    first = next((line for line in start.splitlines() if line.strip()), "").strip()
    if first.startswith(";") or (len(first.split()) == SWF_FIELDS and "," not in first):
        return "swf"
    if first in known_headers():
        return "csv"
    if "pipelineSpec" in start or ("deploymentSpec:" in start and "components:" in start) or "run_details" in start:
        return "kubeflow"
    if "dag_id" in start and "task_id" in start:
        return "airflow"
    if first.startswith("{") and '"runtimes"' in first:
        return "dag-lines"
    if start.lstrip().startswith("{") and '"workflow"' in start:
        return "wfformat"
    if start.lstrip()[:1] in "[{" and ("expected_start_time" in start or "flow_id" in start):
        return "prefect"
    raise InvalidInputError("trace", str(path), f"its format could not be told; name one of {', '.join(FORMATS)}")

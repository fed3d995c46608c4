"""Memory use of flow runs from the file of an OpenTelemetry collector (`file` exporter, OTLP JSON).

Since 3.6.22 Prefect emits `process.memory.usage` (bytes) of each flow run where OpenTelemetry is set up, with the run's
and the deployment's id as attributes of the resource.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from prefect_intelligent.errors import InvalidInputError

_METRIC: Final = "process.memory.usage"


def read_usage(path: Path) -> pd.DataFrame:
    """Return the peak of each run: `run_id`, `deployment_id`, `memory_bytes`.

    Raises:
        InvalidInputError: The file cannot be read, or holds no memory use of a flow run.
    """
    peaks: dict[tuple[str, str], float] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                for run, value in _points(path, number, line):
                    peaks[run] = max(value, peaks.get(run, value))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("--usage", str(path), f"cannot be read: {error}") from error
    if not peaks:
        raise InvalidInputError("--usage", str(path), "holds no memory use of a flow run of Prefect")
    rows = [(run, deployment, peak) for (run, deployment), peak in peaks.items()]
    return pd.DataFrame(rows, columns=["run_id", "deployment_id", "memory_bytes"])


def _points(path: Path, number: int, line: str) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield ((run, deployment), bytes) of every data point of a line."""
    try:
        found = json.loads(line) if line.strip() else {}
        for resource in found.get("resourceMetrics", ()):
            labels = _labels(resource.get("resource", {}))
            if (run := labels.get("prefect.flow-run.id")) is None:
                continue
            metrics = [metric for scope in resource.get("scopeMetrics", ()) for metric in scope.get("metrics", ())]
            for metric in metrics:
                data = metric.get("gauge") or metric.get("sum") or {}
                for point in data.get("dataPoints", ()) if metric.get("name") == _METRIC else ():
                    value = point["asDouble"] if "asDouble" in point else point["asInt"]
                    yield (run, labels.get("prefect.deployment.id", "")), float(value)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InvalidInputError(f"{path}:{number}", line[:60], "is not a line of OTLP JSON metrics") from error


def _labels(resource: Mapping[str, Any]) -> dict[str, str]:
    return {item["key"]: str(item["value"].get("stringValue", "")) for item in resource.get("attributes", ())}

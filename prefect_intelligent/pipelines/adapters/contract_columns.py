"""Read the columns that a Soda data contract guarantees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.deployments import ColumnSpec, TableSchema


def read_promises(text: str, name: str, outputs: Sequence[str]) -> dict[str, TableSchema]:
    """Return columns with their types and valid ranges, for the output that the contract describes.

    That is the output with the name of the contract's dataset or of its last part; without one, the first output.

    Args:
        text: YAML of the contract.
        name: Name of the contract in messages.
        outputs: Datasets that the deployment writes; at least one.

    Raises:
        InvalidInputError: The text is not a contract.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(name, "YAML", f"cannot be read: {str(error).splitlines()[0]}") from error
    columns = data.get("columns") if isinstance(data, dict) else None
    if not isinstance(columns, list):
        raise InvalidInputError(name, type(data).__name__, "a contract has a list `columns`")
    dataset = str(data.get("dataset", ""))
    described = next((found for found in outputs if found in (dataset, dataset.rpartition("/")[2])), outputs[0])
    found = {
        str(column["name"]): _column(column) for column in columns if isinstance(column, dict) and "name" in column
    }
    return {described: found}


def _column(column: dict[str, Any]) -> ColumnSpec:
    """Return type and range of one column; the range is the intersection of its checks."""
    lows, highs = [], []
    for check in column.get("checks") or ():
        for settings in check.values() if isinstance(check, dict) else ():
            if isinstance(settings, dict):
                lows += [float(settings["valid_min"])] if "valid_min" in settings else []
                highs += [float(settings["valid_max"])] if "valid_max" in settings else []
    kind = column.get("data_type")
    return ColumnSpec(
        type=None if kind is None else str(kind).lower(),
        minimum=max(lows, default=None),
        maximum=min(highs, default=None),
    )

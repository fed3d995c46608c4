"""What a Soda data contract promises of the columns of its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.deployments import ColumnSpec, TableSchema


def read_promises(text: str, name: str, outputs: Sequence[str]) -> dict[str, TableSchema]:
    """Columns with their types and valid ranges, for the one output that the contract is about.

    That is the output named as the contract's dataset, or as the last part of it; else the first.

    Args:
        text: YAML of the contract.
        name: For messages.
        outputs: Datasets that the contract's owner writes; at least one.

    Raises:
        InvalidInputError: It is not a contract.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(name, "YAML", f"cannot be read: {str(error).splitlines()[0]}") from error
    columns = data.get("columns") if isinstance(data, dict) else None
    if not isinstance(columns, list):
        raise InvalidInputError(name, type(data).__name__, "a contract has a list `columns`")
    dataset = str(data.get("dataset", ""))
    about = next((found for found in outputs if found in (dataset, dataset.rpartition("/")[2])), outputs[0])
    found = {
        str(column["name"]): _column(column) for column in columns if isinstance(column, dict) and "name" in column
    }
    return {about: found}


def _column(column: dict[str, Any]) -> ColumnSpec:
    """Type and range of one column; the narrowest range of its checks counts."""
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

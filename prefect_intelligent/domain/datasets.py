"""Where a dataset is: a frame in memory, a file, or a table of a database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from prefect_intelligent.errors import InvalidInputError

_FORMS = "a data frame, FILE.parquet, FILE.csv, FILE.duckdb::TABLE or postgresql://HOST/DATABASE::SCHEMA.TABLE"


class DataKind(StrEnum):
    """How a dataset is stored."""

    FRAME = "frame"
    PARQUET = "parquet"
    CSV = "csv"
    DUCKDB = "duckdb"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset, as a person or a flow refers to it.

    Attributes:
        kind: How it is stored.
        location: Path of the file or URL of the database; "" for a frame.
        schema: Database schema; "" for the default one.
        table: Name of the table; "" for the one that the contract names.
        frame: The frame itself, a pandas or Arrow table.
        casts: Column of the frame to the SQL type as which it is read, where that is not its own.
    """

    kind: DataKind
    location: str = ""
    schema: str = ""
    table: str = ""
    frame: Any = field(default=None, repr=False, compare=False)
    casts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        if self.kind is DataKind.FRAME:
            return "data frame"
        place = without_password(self.location) if self.kind is DataKind.POSTGRES else self.location
        if not self.table:
            return place
        return f"{place}::{self.table}" if self.schema in ("", "main") else f"{place}::{self.schema}.{self.table}"


def parse_dataset(data: object) -> Dataset:
    """The dataset that a value or a text refers to.

    Args:
        data: A pandas frame, an Arrow table (a Polars frame becomes one), a path, or text in one of the forms of the
            error message.

    Raises:
        InvalidInputError: It is none of these.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Path):
        data = str(data)
    if isinstance(data, str):
        return _parse_text(data)
    kinds = [(kind.__module__.split(".")[0], kind.__name__) for kind in type(data).__mro__]
    if ("polars", "DataFrame") in kinds:
        return Dataset(kind=DataKind.FRAME, frame=data.to_arrow())  # type: ignore[attr-defined]
    if ("pandas", "DataFrame") in kinds or ("pyarrow", "Table") in kinds:
        return Dataset(kind=DataKind.FRAME, frame=data)
    raise InvalidInputError("data", ".".join(kinds[0]), f"expected {_FORMS}")


def _parse_text(text: str) -> Dataset:
    place, _, name = text.partition("::")
    schema, _, table = name.rpartition(".")
    if place.startswith(("postgresql://", "postgres://")):
        return Dataset(kind=DataKind.POSTGRES, location=place, schema=schema or "public", table=table)
    kinds = {".parquet": DataKind.PARQUET, ".csv": DataKind.CSV, ".duckdb": DataKind.DUCKDB, ".db": DataKind.DUCKDB}
    kind = kinds.get(Path(place).suffix.lower())
    if kind is None:
        raise InvalidInputError("data", text, f"expected {_FORMS}")
    if kind is DataKind.DUCKDB:
        return Dataset(kind=kind, location=place, schema=schema or "main", table=table)
    return Dataset(kind=kind, location=place)


def without_password(url: str) -> str:
    """The URL with any password replaced by `***`."""
    url = re.sub(r"([?&]password=)[^&:]*", r"\1***", url)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.split(':')[0]}:***@{host}"))

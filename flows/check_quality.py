"""Pipelines around the quality gate: load a year of flights, let only good rows through, build a mart from them.

`python -m flows.check_quality` shows it without a server: seeded defects, which of them block, and which rows are set
aside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
from prefect import flow

from flows.seed_defects import BLOCKING_DEFECTS, ROW_DEFECTS, load_year
from prefect_intelligent import quality_gate

CONTRACT = Path(__file__).parent / "contracts" / "flights.yml"
MART = """
CREATE OR REPLACE TABLE mart_punctuality AS
SELECT carrier, month, count(*) AS flights, count(*) FILTER (dep_delay > 15) AS late,
       round(avg(dep_delay), 3) AS mean_delay_min
FROM flights GROUP BY carrier, month ORDER BY carrier, month
"""


@flow
def check_flights(warehouse: str, downstream: Sequence[str] = ()) -> str:
    """Gate the table `flights`: bad rows are set aside, a bad table holds `downstream`; returns the outcome."""
    return str(quality_gate(CONTRACT, f"{warehouse}::flights", downstream=tuple(downstream)).outcome)


@flow
def build_punctuality(warehouse: str) -> int:
    """Build the mart of punctuality by carrier and month; returns its number of rows."""
    with duckdb.connect(warehouse) as con:
        con.execute(MART)
        found = con.execute("SELECT count(*) FROM mart_punctuality").fetchone()
    assert found is not None
    return int(found[0])


def show(folder: Path) -> None:
    """Plant each kind of defect and print the result of the gate."""
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import load_contract, quality_parts

    contract = load_contract(CONTRACT)
    gate = quality_parts(prefect=False).gate
    warehouse = folder / "warehouse.duckdb"
    for kinds in ((), *[(kind,) for kind in BLOCKING_DEFECTS], tuple(ROW_DEFECTS)):
        seeded = load_year(warehouse, now_s=time.time(), defects=kinds)
        planted = {kind: len(numbers) for kind, numbers in seeded.numbers.items()} or ", ".join(kinds) or "nothing"
        print(f"\nplanted: {planted} ({seeded.rows} rows)")
        result = gate.run(contract, parse_dataset(f"{warehouse}::flights"), run_id=f"show-{'-'.join(kinds)}")
        for line in (*result.log, result.sentence()):
            print(f"  {line}")


if __name__ == "__main__":
    from flows.store_partitions import lake

    show(lake().parent / "quality")

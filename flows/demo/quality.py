"""The third part of the demo: bad data is found, set aside or blocks a mart, which runs once the data are good."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from flows.check_quality import build_punctuality, check_flights
from flows.demo.environment import Folders
from flows.demo.pool import DemoPool
from flows.demo.processes import Child, DemoError
from flows.demo.workload import Pipeline
from flows.seed_defects import ROW_DEFECTS, Seeded, load_year

CHECK = Pipeline(flow=check_flights, queue="refine")
BUILD = Pipeline(flow=build_punctuality, queue="marts")
HELD = "AwaitingConcurrencySlot"
TIMEOUT_S = 120.0


def play_quality(pool: DemoPool, folders: Folders, worker: Child, progress: Callable[[str], None]) -> dict[str, Any]:
    """Load the year with a renamed column, then with bad rows, and record the results of the gate.

    Returns:
        JSON-ready: rows planted and set aside per kind of defect, whether exactly the planted rows were set aside, and
        the states of the mart's run.

    Raises:
        DemoError: A run did not end in time.
    """
    warehouse = folders.output / "lake-quality" / "warehouse.duckdb"
    begin_s = time.monotonic()
    parameters = {"warehouse": str(warehouse)}
    pool.deploy(CHECK, {**parameters, "downstream": [BUILD.name]})
    pool.deploy(BUILD, parameters)

    progress("a load with a renamed column")
    load_year(warehouse, now_s=time.time(), defects=["renamed_column"])
    blocked = _wait(pool, worker, pool.start(CHECK), lambda state: state["final"])
    mart = pool.start(BUILD)
    held = _wait(pool, worker, mart, lambda state: state["final"] or state["name"] == HELD)

    progress("a load with bad rows among 336,776 good ones")
    seeded = load_year(warehouse, now_s=time.time(), defects=list(ROW_DEFECTS))
    passed = _wait(pool, worker, pool.start(CHECK), lambda state: state["final"])
    built = _wait(pool, worker, mart, lambda state: state["final"])
    return {
        "rows": seeded.rows,
        "renamed_column": {"check": blocked["name"], "message": blocked["message"], "mart": held["name"]},
        "bad_rows": {"check": passed["name"], "mart": built["name"], **_set_aside(warehouse, seeded)},
        "wall_s": round(time.monotonic() - begin_s, 3),
    }


def is_as_planted(quality: Mapping[str, Any]) -> bool:
    """Whether the gate blocked and set aside exactly what was planted."""
    schema, rows = quality["renamed_column"], quality["bad_rows"]
    return bool(
        (schema["check"], schema["mart"]) == ("Failed", HELD)
        and (rows["check"], rows["mart"]) == ("Completed", "Completed")
        and rows["exactly_the_planted_rows"]
    )


def describe_quality(quality: Mapping[str, Any]) -> str:
    """The results as text."""
    schema, rows = quality["renamed_column"], quality["bad_rows"]
    planted, aside = sum(rows["planted"].values()), sum(rows["set_aside"].values())
    return (
        f"Data quality: a load with a renamed column: check {schema['check']}, mart {schema['mart']}. "
        f"A load with {planted} bad rows among {quality['rows'] - planted:,}: {aside} set aside, "
        f"{'exactly the planted ones' if rows['exactly_the_planted_rows'] else 'NOT the planted ones'}; "
        f"check {rows['check']}, mart {rows['mart']}."
    )


def _wait(
    pool: DemoPool, worker: Child, run_id: str, reached: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any]:
    """The state of the run as soon as `reached` holds for it."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while not reached(state := pool.state(run_id)):
        worker.check()
        if time.monotonic() > give_up_s:
            raise DemoError(f"run {run_id} is still {state['name']} after {TIMEOUT_S:.0f} s; see {worker.log}")
        time.sleep(0.5)
    return state


def _set_aside(warehouse: Path, seeded: Seeded) -> dict[str, Any]:
    """How many rows were set aside, and whether they are exactly the planted ones."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = {int(row[0]) for row in connection.execute("SELECT row_number FROM flights__quarantine").fetchall()}
        left = connection.execute("SELECT count(*) FROM flights").fetchone()
    assert left is not None
    planted = {number for numbers in seeded.numbers.values() for number in numbers}
    kinds = Counter(kind for kind, numbers in seeded.numbers.items() for number in numbers if number in found)
    return {
        "planted": {kind: len(numbers) for kind, numbers in seeded.numbers.items()},
        "set_aside": {kind: kinds[kind] for kind in seeded.numbers},
        "exactly_the_planted_rows": found == planted,
        "rows_left": int(left[0]),
    }

"""A year of real flights with planted defects, a real server and a real worker: found, set aside, held, released."""

import time
from collections import Counter

import duckdb
import pytest

from flows.check_quality import MART
from flows.seed_defects import ROW_DEFECTS, load_year
from tests.real_prefect import REPOSITORY, start_worker

pytest.importorskip("soda_core", reason="needs the extra quality")
pytestmark = [pytest.mark.worker, pytest.mark.slow]

REASON = {
    "missing_key": "columns.flight_id.checks.missing",
    "duplicate": "columns.flight_id.checks.duplicate",
    "delay_out_of_range": "checks.failed_rows.dep_delay",
    "unknown_carrier": "columns.carrier.checks.invalid",
}


def mart(warehouse):
    with duckdb.connect(str(warehouse), read_only=True) as con:
        return con.execute("SELECT * FROM mart_punctuality ORDER BY carrier, month").fetchall()


def test_defects_are_found_set_aside_and_the_mart_waits_for_good_data(tmp_path, prefect_server, api, workers):
    warehouse, home = tmp_path / "warehouse.duckdb", tmp_path / "home"
    pool = api.pool()

    def deploy(flow, **parameters):
        return api.deployment(
            pool,
            flow=flow.replace("_", "-"),
            entrypoint=f"flows/check_quality.py:{flow}",
            path=REPOSITORY,
            parameters={"warehouse": str(warehouse), **parameters},
        )

    build = deploy("build_punctuality")
    check = deploy("check_flights", downstream=["build-punctuality/d"])
    workers.callback(start_worker(prefect_server, pool, PREFECT_INTELLIGENT_DATA_DIR=str(home)).stop)

    # A renamed column and a stale partition: the table is bad, the mart is held and no row is touched.
    stale = tmp_path / "stale.duckdb"
    load_year(warehouse, now_s=time.time(), defects=["renamed_column"])
    load_year(stale, now_s=time.time(), defects=["stale_partition"])
    blocked = [api.run(check), api.run(check, parameters={"warehouse": str(stale), "downstream": []})]

    # The truth: the mart of the clean year.
    clean = load_year(tmp_path / "clean.duckdb", now_s=time.time())
    assert clean.rows == 336_776
    with duckdb.connect(str(tmp_path / "clean.duckdb")) as con:
        con.execute(MART)
        keys = con.execute("SELECT row_number FROM flights ORDER BY row_number").fetchall()
    truth = mart(tmp_path / "clean.duckdb")

    for run, says in zip(api.wait(blocked), ("carrier -> carrier_code", "Data is fresh"), strict=True):
        assert run["state"]["type"] == "FAILED", says
        assert says in run["state"]["message"]
    with duckdb.connect(str(stale), read_only=True) as con:
        assert con.execute("SHOW TABLES").fetchall() == [("flights",)]
        assert con.execute("SELECT count(*) FROM flights").fetchone() == (336_776,)
    waiting = api.run(build)
    deadline = time.monotonic() + 240
    while api.read_run(waiting)["state"]["name"] != "AwaitingConcurrencySlot":
        assert time.monotonic() < deadline, "the mart was not held"
        time.sleep(0.5)

    # Bad rows among good ones: exactly they are set aside, the rest is verified again, the mart is released.
    seeded = load_year(warehouse, now_s=time.time(), defects=list(ROW_DEFECTS))
    (run,) = api.wait([api.run(check)])
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    (built,) = api.wait([waiting])
    assert built["state"]["type"] == "COMPLETED"
    assert built["run_count"] == 1

    with duckdb.connect(str(warehouse), read_only=True) as con:
        held = con.execute("SELECT row_number, _dq_reasons, _dq_state, _dq_run_id FROM flights__quarantine").fetchall()
        kept = con.execute("SELECT row_number FROM flights ORDER BY row_number").fetchall()
    found = {kind: {number for number, (reason,), *_ in held if reason == REASON[kind]} for kind in ROW_DEFECTS}
    assert found == {kind: set(numbers) for kind, numbers in seeded.numbers.items()}
    assert Counter(state for _, _, state, _ in held) == {"held": sum(ROW_DEFECTS.values())}
    assert {by for *_, by in held} == {run["id"]}
    gone = {number for numbers in seeded.numbers.values() for number in numbers}
    assert [number for (number,) in kept] == [number for (number,) in keys if number not in gone]

    # The mart is what the clean year gives without the rows that are set aside.
    with duckdb.connect(str(tmp_path / "other.duckdb")) as con:
        con.execute(f"ATTACH '{warehouse}' AS w (READ_ONLY)")
        con.execute("CREATE TABLE flights AS FROM w.flights")
        con.execute(MART)
        rebuilt = con.execute("SELECT * FROM mart_punctuality ORDER BY carrier, month").fetchall()
    assert mart(warehouse) == rebuilt
    assert [row[:2] for row in rebuilt] == [row[:2] for row in truth]
    assert sum(row[2] for row in truth) - sum(row[2] for row in rebuilt) == len(gone) - ROW_DEFECTS["duplicate"]

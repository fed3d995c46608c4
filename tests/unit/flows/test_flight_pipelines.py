"""Each pipeline's data work on a slice small enough to check by hand."""

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from flows import store_partitions
from flows.backfill_history import backfill_days, bootstrap_knock_on
from flows.build_marts import BY_AIRLINE, BY_AIRPORT, build_mart
from flows.clean_flights import clean_day
from flows.ingest_tables import ingest_day, ingest_whole
from flows.join_weather import join_day
from flows.store_partitions import connect, partition, scan, scan_source, write_partition
from flows.write_report import read_marts, write_page
from prefect_intelligent.errors import InvalidInputError, UnknownNameError

DAY = date(2013, 2, 8)
FLIGHTS = """
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,2,8,610,600,10,805,800,5,AA,1,N1,EWR,ORD,100,700,6,0,2013-02-08T11:00:00Z
2013,2,8,730,700,30,930,900,30,AA,2,N2,EWR,ORD,100,700,7,0,2013-02-08T12:00:00Z
2013,2,8,NA,800,NA,NA,1000,NA,AA,3,NA,LGA,BQN,NA,1500,8,0,2013-02-08T13:00:00Z
2013,2,8,900,900,0,NA,1100,NA,B6,4,N1,EWR,ORD,NA,700,9,0,2013-02-08T14:00:00Z
2013,2,8,900,900,0,NA,1100,NA,B6,4,N1,EWR,ORD,NA,700,9,0,2013-02-08T14:00:00Z
2013,2,9,605,600,5,805,800,20,AA,1,N1,EWR,ORD,100,700,6,0,2013-02-09T11:00:00Z
"""
WEATHER = """
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,2,8,5,30,20,80,10,5,NA,0,1000,10,2013-02-08T10:00:00Z
EWR,2013,2,8,6,31,20,80,10,9,25,0.1,NA,2,2013-02-08T11:00:00Z
EWR,2013,2,8,9,32,20,80,10,12,30,0.2,NA,1,2013-02-08T14:00:00Z
"""
REFERENCE = {
    "airlines": "carrier,name\nAA,American\nB6,JetBlue\n",
    "airports": "faa,name,lat,lon,alt,tz,dst,tzone\nORD,O'Hare,41.9,-87.9,668,-6,A,America/Chicago\n",
    "planes": "tailnum,year,type,manufacturer,model,engines,seats,speed,engine\nN1,2003,Wing,BOEING,737,2,149,NA,Fan\n",
}


@pytest.fixture
def slice_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five tiny source tables and an empty lake."""
    for name, text in {"flights": FLIGHTS, "weather": WEATHER, **REFERENCE}.items():
        (tmp_path / f"{name}.csv").write_text(text.lstrip())
    monkeypatch.setattr(store_partitions, "source", lambda table: tmp_path / f"{table}.csv")
    monkeypatch.setenv(store_partitions.LAKE_VARIABLE, str(tmp_path / "lake"))
    return tmp_path


@pytest.fixture
def joined(slice_of_tables: Path) -> Path:
    """The same after the chain up to the join has run for the day."""
    for table in REFERENCE:
        ingest_whole(table)
    for table in ("flights", "weather"):
        ingest_day(table, DAY)
    clean_day(DAY)
    join_day(DAY)
    return slice_of_tables


def rows(dataset: str, columns: str, order: str) -> list[tuple[object, ...]]:
    with connect() as connection:
        return connection.execute(f"SELECT {columns} FROM {scan(dataset)} ORDER BY {order}").fetchall()


def test_ingest_takes_the_rows_of_the_day_and_reads_gaps_as_null(slice_of_tables: Path):
    assert ingest_day("flights", DAY) == 5
    assert rows("raw_flights", "flight, dep_time, tailnum", "flight")[2] == (3, None, None)
    assert ingest_whole("planes") == 1
    assert rows("raw_planes", "tailnum, speed", "tailnum") == [("N1", None)]


def test_cleaning_drops_doubles_and_marks_cancelled_and_diverted(joined: Path):
    found = rows("clean_flights", "flight, cancelled, diverted, airline, destination, plane_age_years", "flight")
    assert found == [
        (1, False, False, "American", "O'Hare", 10),
        (2, False, False, "American", "O'Hare", None),  # a plane the register lacks
        (3, True, False, "American", None, None),  # an airport the table lacks
        (4, False, True, "JetBlue", "O'Hare", 10),
    ]


def test_a_flight_gets_the_latest_weather_before_it_and_its_age(joined: Path):
    found = rows("flight_weather", "flight, wind_mph, weather_age_min", "flight")
    assert found == [(1, 9, 0), (2, 9, 60), (3, None, None), (4, 12, 0)]


def test_the_airline_mart_counts_delays_of_flights_that_flew(joined: Path):
    assert build_mart(BY_AIRLINE, "airline_delays", DAY) == 2
    columns = "carrier, flights, cancelled, diverted, mean_departure_delay_min, on_time_share, minutes_lost"
    assert rows("airline_delays", columns, "carrier") == [("AA", 3, 1, 0, 20.0, 0.5, 35), ("B6", 1, 0, 1, 0.0, None, 0)]


def test_the_airport_mart_has_a_row_per_hour_with_its_wind(joined: Path):
    assert build_mart(BY_AIRPORT, "airport_delays", DAY) == 4
    found = rows("airport_delays", "origin, hour(departure_hour), flights, gust_mph", "origin, departure_hour")
    assert found == [("EWR", 6, 1, 25), ("EWR", 7, 1, 25), ("EWR", 9, 1, 30), ("LGA", 8, 1, None)]


def test_the_report_states_the_day_and_plots_it(joined: Path):
    build_mart(BY_AIRLINE, "airline_delays", DAY)
    build_mart(BY_AIRPORT, "airport_delays", DAY)
    page = write_page(DAY).read_text()
    assert "4 flights, 1 cancelled, 35 minutes lost" in page
    assert "8 February 2013" in page
    assert "<svg" in page
    assert "none flew" in page  # JetBlue has no arrival
    assert "<td>American</td><td>3</td><td>1</td><td>50 %</td><td>35</td>" in page


def test_names_in_the_report_are_escaped(joined: Path, monkeypatch: pytest.MonkeyPatch):
    build_mart(BY_AIRLINE, "airline_delays", DAY)
    build_mart(BY_AIRPORT, "airport_delays", DAY)
    airlines, airports = read_marts(DAY)
    evil = "Air <script>alert(1)</script> & Co"
    monkeypatch.setattr("flows.write_report.read_marts", lambda day: (airlines.assign(airline=evil), airports))
    page = write_page(DAY).read_text()
    assert "<script" not in page
    assert "<td>Air &lt;script&gt;alert(1)&lt;/script&gt; &amp; Co</td>" in page


def test_knock_on_is_the_slope_of_delay_over_earlier_delay():
    before = np.arange(20.0)
    legs = pd.DataFrame({"carrier": "AA", "origin": "EWR", "delay_before_min": before, "dep_delay": 3 + 0.5 * before})
    few = legs.head(9).assign(carrier="B6")
    found = bootstrap_knock_on(pd.concat([legs, few]), 50, np.random.default_rng(1))
    assert found[["carrier", "legs"]].to_numpy().tolist() == [["AA", 20]]
    assert found[["knock_on", "low", "high"]].to_numpy() == pytest.approx(np.full((1, 3), 0.5))


def test_backfill_pairs_legs_of_one_aircraft_only_and_writes_its_stretch(slice_of_tables: Path):
    assert backfill_days(date(2013, 2, 8), date(2013, 2, 9), resamples=10) == 0  # one pair, too few for a slope
    assert partition("knock_on", "2013-02-08_2013-02-09").exists()


def test_a_partition_is_replaced_whole_and_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(store_partitions.LAKE_VARIABLE, str(tmp_path))
    with connect() as connection:
        write_partition(connection, "SELECT 1 AS n", "numbers", "all")
        with pytest.raises(duckdb.Error):
            write_partition(connection, "SELECT no_such_column", "numbers", "all")
        assert write_partition(connection, "SELECT unnest([2, 3]) AS n", "numbers", "all") == 2
    assert rows("numbers", "n", "n") == [(2,), (3,)]
    assert [path.name for path in (tmp_path / "numbers").iterdir()] == ["all.parquet"]


def test_reading_what_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(store_partitions.LAKE_VARIABLE, str(tmp_path))
    with pytest.raises(InvalidInputError, match="run the pipeline that writes it"):
        scan("clean_flights")
    with pytest.raises(InvalidInputError, match="not written yet"):
        clean_day(DAY)
    with pytest.raises(UnknownNameError, match="did you mean 'flights'"):
        scan_source("flight")


def test_the_real_tables_are_found_without_importing_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(store_partitions.LAKE_VARIABLE, str(tmp_path / "lake"))
    with connect() as connection:
        counts = connection.execute(f"SELECT count(*), count(dep_time) FROM {scan_source('flights')}").fetchone()
    assert counts == (336776, 328521)
    assert ingest_day("flights", DAY) == 930

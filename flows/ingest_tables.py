"""Five pipelines that copy the five source tables into the lake, typed but otherwise unchanged."""

from __future__ import annotations

from datetime import date

from prefect import flow

from flows.store_partitions import connect, scan_source, write_partition
from prefect_intelligent import intelligent


def ingest_day(table: str, day: date) -> int:
    """Store the rows of one calendar day (New York time) of `flights` or `weather`; returns how many."""
    query = f"SELECT * FROM {scan_source(table)} WHERE year = ? AND month = ? AND day = ?"
    with connect() as connection:
        return write_partition(connection, query, f"raw_{table}", day.isoformat(), [day.year, day.month, day.day])


def ingest_whole(table: str) -> int:
    """Store a whole reference table; returns its number of rows."""
    with connect() as connection:
        return write_partition(connection, f"SELECT * FROM {scan_source(table)}", f"raw_{table}", "all")


@intelligent(deadline="25s", late_usd_per_hour=190, expected=4, outputs=["raw_flights"], batch="day")
@flow
def ingest_flights(day: date) -> int:
    """Bring in the flights that were to leave New York on a day."""
    return ingest_day("flights", day)


@intelligent(deadline="25s", late_usd_per_hour=170, expected=4, outputs=["raw_weather"], batch="day")
@flow
def ingest_weather(day: date) -> int:
    """Bring in the hourly weather of New York's three airports for a day."""
    return ingest_day("weather", day)


@intelligent(deadline="3m", late_usd_per_hour=5, expected=4, outputs=["raw_planes"])
@flow
def ingest_planes() -> int:
    """Bring in the aircraft register."""
    return ingest_whole("planes")


@intelligent(deadline="3m", late_usd_per_hour=5, expected=4, outputs=["raw_airports"])
@flow
def ingest_airports() -> int:
    """Bring in the airports."""
    return ingest_whole("airports")


@intelligent(deadline="3m", late_usd_per_hour=5, expected=4, outputs=["raw_airlines"])
@flow
def ingest_airlines() -> int:
    """Bring in the airlines."""
    return ingest_whole("airlines")

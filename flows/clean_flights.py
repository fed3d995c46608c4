"""One pipeline that cleans a day of raw flights."""

from __future__ import annotations

from datetime import date

from prefect import flow

from flows.store_partitions import connect, scan, scan_partition, write_partition
from prefect_intelligent import intelligent

CLEAN = """
WITH typed AS (
    SELECT
        make_date(year, month, day) AS flight_date,
        carrier, flight, tailnum, origin, dest, distance, air_time,
        make_timestamp(year, month, day, sched_dep_time // 100, sched_dep_time % 100, 0) AS scheduled_departure,
        CAST(time_hour AS TIMESTAMP) AS hour_utc,
        dep_delay, arr_delay,
        dep_time IS NULL AS cancelled,
        dep_time IS NOT NULL AND arr_delay IS NULL AS diverted
    FROM {flights}
    WHERE origin <> dest AND sched_dep_time BETWEEN 0 AND 2359 AND sched_dep_time % 100 < 60
)
SELECT
    typed.*,
    airlines.name AS airline,
    airports.name AS destination,
    planes.manufacturer, planes.seats,
    year(typed.flight_date) - planes.year AS plane_age_years
FROM typed
LEFT JOIN {airlines} AS airlines USING (carrier)
LEFT JOIN {airports} AS airports ON airports.faa = typed.dest
LEFT JOIN {planes} AS planes USING (tailnum)
QUALIFY row_number() OVER (
    PARTITION BY carrier, flight, origin, scheduled_departure ORDER BY cancelled, tailnum, dest
) = 1
ORDER BY scheduled_departure, carrier, flight
"""
"""Keeps cancelled and diverted flights and marks them; unknown aircraft and airports stay NULL (the register
lacks one flight in six, and four Caribbean airports are missing)."""


def clean_day(day: date) -> int:
    """Type and deduplicate the flights of a day, and join airline, airport and plane.

    Returns:
        Number of flights kept.
    """
    key = day.isoformat()
    query = CLEAN.format(
        flights=scan_partition("raw_flights", key),
        airlines=scan("raw_airlines"),
        airports=scan("raw_airports"),
        planes=scan("raw_planes"),
    )
    with connect() as connection:
        return write_partition(connection, query, "clean_flights", key)


@intelligent(
    deadline="25s",
    late_usd_per_hour=180,
    expected=4,
    inputs=["raw_flights", "raw_planes", "raw_airports", "raw_airlines"],
    outputs=["clean_flights"],
    batch="day",
)
@flow
def clean_flights(day: date) -> int:
    """Clean the flights of a day."""
    return clean_day(day)

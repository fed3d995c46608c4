"""One pipeline that joins every flight with the weather at its scheduled departure."""

from __future__ import annotations

from datetime import date

from prefect import flow

from flows.store_partitions import connect, scan, scan_partition, write_partition
from prefect_intelligent import intelligent

JOIN = """
WITH observed AS (
    SELECT
        origin, CAST(time_hour AS TIMESTAMP) AS observed_utc,
        temp AS temperature_f, wind_speed AS wind_mph, wind_gust AS gust_mph, precip AS precipitation_in,
        visib AS visibility_mi
    FROM {weather}
)
SELECT flights.*, observed.* EXCLUDE (origin), date_diff('minute', observed_utc, hour_utc) AS weather_age_min
FROM {flights} AS flights
ASOF LEFT JOIN observed ON flights.origin = observed.origin AND flights.hour_utc >= observed.observed_utc
ORDER BY scheduled_departure, carrier, flight
"""


def join_day(day: date) -> int:
    """Join a day of clean flights with the latest weather observed at the origin before the scheduled hour.

    Hours without an observation (the weather table has gaps) take an earlier one; `weather_age_min` is its age.

    Returns:
        Number of flights written.
    """
    key = day.isoformat()
    query = JOIN.format(flights=scan_partition("clean_flights", key), weather=scan("raw_weather"))
    with connect() as connection:
        return write_partition(connection, query, "flight_weather", key)


@intelligent(
    deadline="25s",
    late_usd_per_hour=160,
    expected=4,
    inputs=["clean_flights", "raw_weather"],
    outputs=["flight_weather"],
    batch="day",
)
@flow
def join_weather(day: date) -> int:
    """Join the flights of a day with the weather."""
    return join_day(day)

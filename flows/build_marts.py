"""Two pipelines that aggregate a day: delays per airline and per airport."""

from __future__ import annotations

from datetime import date

from prefect import flow

from flows.store_partitions import connect, scan_partition, write_partition
from prefect_intelligent import intelligent

MEASURES = """
    count(*) AS flights,
    count(*) FILTER (cancelled) AS cancelled,
    count(*) FILTER (diverted) AS diverted,
    avg(dep_delay) AS mean_departure_delay_min,
    median(dep_delay) AS median_departure_delay_min,
    quantile_cont(dep_delay, 0.9) AS p90_departure_delay_min,
    avg(CAST(arr_delay < 15 AS INTEGER)) AS on_time_share,
    coalesce(sum(greatest(arr_delay, 0)), 0) AS minutes_lost
"""
"""Delays count only flights that left (or arrived); on time is the usual "less than 15 minutes late"."""

BY_AIRLINE = f"""
SELECT flight_date, carrier, coalesce(any_value(airline), carrier) AS airline, {MEASURES}
FROM {{flights}} GROUP BY flight_date, carrier ORDER BY carrier
"""

BY_AIRPORT = f"""
SELECT flight_date, origin, date_trunc('hour', scheduled_departure) AS departure_hour, {MEASURES},
    max(gust_mph) AS gust_mph, max(wind_mph) AS wind_mph, min(visibility_mi) AS visibility_mi
FROM {{flights}} GROUP BY flight_date, origin, departure_hour ORDER BY origin, departure_hour
"""


def build_mart(query: str, dataset: str, day: date) -> int:
    """Write one mart for a day from the flights joined with the weather; returns its number of rows."""
    key = day.isoformat()
    with connect() as connection:
        return write_partition(connection, query.format(flights=scan_partition("flight_weather", key)), dataset, key)


@intelligent(
    deadline="25s",
    late_usd_per_hour=100,
    expected=4,
    inputs=["flight_weather"],
    outputs=["airline_delays"],
    batch="day",
)
@flow
def mart_airlines(day: date) -> int:
    """Aggregate the delays of a day per airline."""
    return build_mart(BY_AIRLINE, "airline_delays", day)


@intelligent(
    deadline="25s",
    late_usd_per_hour=100,
    expected=4,
    inputs=["flight_weather"],
    outputs=["airport_delays"],
    batch="day",
)
@flow
def mart_airports(day: date) -> int:
    """Aggregate the delays of a day per airport and hour, with its wind and visibility."""
    return build_mart(BY_AIRPORT, "airport_delays", day)

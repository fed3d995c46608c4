"""One pipeline without urgency: how delays propagate from flight to flight, over any part of the year."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from prefect import flow

from flows.store_partitions import connect, scan_source, write_partition
from prefect_intelligent import intelligent

LEGS = """
WITH legs AS (
    SELECT
        make_date(year, month, day) AS flight_date, tailnum, carrier, origin, dest, dep_delay, arr_delay,
        CAST(time_hour AS TIMESTAMP) AS hour_utc
    FROM {flights}
    WHERE tailnum IS NOT NULL AND arr_delay IS NOT NULL AND make_date(year, month, day) BETWEEN ? AND ?
)
SELECT
    carrier, origin, dep_delay,
    lag(arr_delay) OVER aircraft AS delay_before_min,
    date_diff('hour', lag(hour_utc) OVER aircraft, hour_utc) AS hours_between
FROM legs
WINDOW aircraft AS (PARTITION BY tailnum ORDER BY hour_utc, dest)
QUALIFY delay_before_min IS NOT NULL AND hours_between BETWEEN 1 AND 18
"""
"""Pairs each departure from New York with the delay of the same aircraft's previous flight from New York."""


def bootstrap_knock_on(legs: pd.DataFrame, resamples: int, rng: np.random.Generator) -> pd.DataFrame:
    """Minutes of departure delay per minute of the previous flight's delay, per airline and airport.

    The slope of departure delay over earlier delay (least squares), with a 95 % interval from resampling the legs.

    Args:
        legs: Columns carrier, origin, dep_delay, delay_before_min.
        resamples: Bootstrap samples per group.
        rng: Draws the resamples.

    Returns:
        One row per carrier and origin with at least ten legs: legs, knock_on, low, high.
    """
    rows = []
    for (carrier, origin), group in legs.groupby(["carrier", "origin"], sort=True):
        if len(group) < 10:
            continue
        before = group["delay_before_min"].to_numpy(dtype=float)
        after = group["dep_delay"].to_numpy(dtype=float)
        slopes = np.empty(resamples)
        for index in range(resamples):
            pick = rng.integers(0, len(group), len(group))
            slopes[index] = _slope(before[pick], after[pick])
        low, high = np.quantile(slopes, [0.025, 0.975])
        rows.append((carrier, origin, len(group), _slope(before, after), low, high))
    return pd.DataFrame(rows, columns=["carrier", "origin", "legs", "knock_on", "low", "high"])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope; 0 where x does not vary."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    return float(centred @ y) / spread if spread > 0 else 0.0


def backfill_days(first: date, last: date, resamples: int = 2000) -> int:
    """Recompute the knock-on of delays for the flights from `first` to `last`, both included; returns rows written."""
    with connect() as connection:
        legs = connection.execute(LEGS.format(flights=scan_source("flights")), [first, last]).df()
        found = bootstrap_knock_on(legs, resamples, np.random.default_rng(first.toordinal()))
        connection.register("found", found)
        query = "SELECT ?::DATE AS first_day, ?::DATE AS last_day, * FROM found"
        return write_partition(connection, query, "knock_on", f"{first}_{last}", [first, last])


@intelligent(deadline="10m", late_usd_per_hour=1, expected=5, outputs=["knock_on"])
@flow
def backfill_history(first: date, last: date) -> int:
    """Recompute the knock-on of delays for a stretch of days."""
    return backfill_days(first, last)

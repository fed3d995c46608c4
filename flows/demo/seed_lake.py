"""The initial datasets of both arms: reference tables and a first version of every dataset of the demo's days."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.build_marts import BY_AIRLINE, BY_AIRPORT, build_mart
from flows.clean_flights import clean_day
from flows.demo.workload import DAYS
from flows.ingest_tables import ingest_day, ingest_whole
from flows.join_weather import join_day
from flows.store_partitions import LAKE_VARIABLE
from flows.write_report import write_page


def seed_lake(folder: Path) -> None:
    """Run the chain of the demo's days once in this process, so that every pipeline finds its input.

    It also warms the disk cache for both arms.
    """
    before = os.environ.get(LAKE_VARIABLE)
    os.environ[LAKE_VARIABLE] = str(folder)
    try:
        for table in ("planes", "airports", "airlines"):
            ingest_whole(table)
        for day in DAYS:
            ingest_day("flights", day)
            ingest_day("weather", day)
            clean_day(day)
            join_day(day)
            build_mart(BY_AIRLINE, "airline_delays", day)
            build_mart(BY_AIRPORT, "airport_delays", day)
            write_page(day)
    finally:
        if before is None:
            del os.environ[LAKE_VARIABLE]
        else:
            os.environ[LAKE_VARIABLE] = before


def copy_lake(seed: Path, arm: Path) -> None:
    """Copy the initial datasets for an arm, replacing those of an earlier attempt."""
    shutil.rmtree(arm, ignore_errors=True)
    shutil.copytree(seed, arm)

"""One urgent pipeline: the morning report, a page with a plot."""

from __future__ import annotations

import os
from datetime import date
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pandas as pd
from prefect import flow

from flows.fill_template import fill_template
from flows.store_partitions import connect, lake, scan_partition
from prefect_intelligent import intelligent


def read_marts(day: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The airline mart and the airport mart of a day."""
    key = day.isoformat()
    with connect() as connection:
        airlines = connection.execute(
            f"SELECT * FROM {scan_partition('airline_delays', key)} ORDER BY minutes_lost DESC, carrier"
        ).df()
        airports = connection.execute(
            f"SELECT * FROM {scan_partition('airport_delays', key)} ORDER BY origin, departure_hour"
        ).df()
    return airlines, airports


def plot_day(airlines: pd.DataFrame, airports: pd.DataFrame) -> str:
    """An SVG: minutes lost per airline, and cancellations against gusts over the hours of the day."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh(airlines["airline"], airlines["minutes_lost"], color="#3b6ea5")
    left.invert_yaxis()
    left.set_xlabel("minutes lost on arrival")
    hours = airports.assign(hour=airports["departure_hour"].dt.hour).groupby("hour")
    right.bar(list(hours.groups), hours["cancelled"].sum(), color="#c0564b", label="cancelled flights")
    right.set_xlabel("scheduled hour of departure, New York")
    right.set_ylabel("cancelled flights")
    wind = right.twinx()
    wind.plot(list(hours.groups), hours["wind_mph"].max(), color="#444444", label="wind")
    wind.set_ylabel("strongest wind, mph")
    wind.set_ylim(bottom=0)
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :]


def write_page(day: date) -> Path:
    """Write the report of a day and return its path.

    A summary, the plot and a table of airlines, in one file.
    """
    airlines, airports = read_marts(day)
    page = fill_template(
        "report.html",
        day=day,
        flights=int(airlines["flights"].sum()),
        cancelled=int(airlines["cancelled"].sum()),
        minutes_lost=int(airlines["minutes_lost"].sum()),
        plot=plot_day(airlines, airports),
        airlines=airlines.assign(on_time=airlines["on_time_share"].map(_share)).to_dict("records"),
    )
    path = lake() / "reports" / f"{day.isoformat()}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, path)
    return path


def _share(value: float) -> str:
    """A share as per cent; a day without arrivals has none."""
    return "none flew" if pd.isna(value) else f"{100 * value:.0f} %"


@intelligent(
    deadline="25s",
    late_usd_per_hour=60,
    expected=4,
    inputs=["airline_delays", "airport_delays"],
    outputs=["reports"],
    batch="day",
)
@flow
def write_report(day: date) -> str:
    """Write the morning report of a day."""
    return str(write_page(day))

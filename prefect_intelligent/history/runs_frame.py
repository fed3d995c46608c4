"""The data frame of runs that analytics and forecasting read: one row per run, columns with fixed meanings.

Adapters and trace readers build it; `as_runs` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.run_parameters import bounded, pack

TEXT: Final = ("run_id", "pool", "queue", "deployment", "version", "host", "state", "cause", "parameters")
"""Text columns; missing is None. `parameters` is a line of `run_parameters.pack`."""

TIMES: Final = ("scheduled_s", "submitted_s", "started_s", "ended_s", "due_s")
"""Unix seconds; missing is NaN."""

NUMBERS: Final = ("size", "expected_s", "attempts", "late_usd_per_hour", "failure_usd")
"""Numbers; missing is NaN. `size` is any measure of how big a run is: rows, processors, parameters."""

FAILED_STATES: Final = ("FAILED", "CRASHED")
FINAL_STATES: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

SWF_STATUS: Final[Mapping[int, str]] = {
    0: "FAILED", 1: "COMPLETED", 2: "COMPLETED", 3: "COMPLETED", 4: "FAILED", 5: "CANCELLED",
}  # fmt: skip

SWF_COLUMNS: Final = (
    "job", "submit", "wait", "run", "procs", "reqtime", "status", "user", "group", "exe", "queue", "partition", "id",
    "start", "end", "used_procs", "cpu", "avg_cpu", "cpu_used", "mem", "used_mem", "memory", "req_procs", "req_mem",
    "req_memory", "prev_job", "preceding_job", "think_time",
)  # fmt: skip
"""Names of the Standard Workload Format, in its usual spellings: some of them are known only when a job has ended."""

REQUIRED: Final = ("deployment", "submitted_s", "state")


def as_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """A checked table of runs: every column present and typed, ordered by submission.

    Impossible instants are corrected, not dropped: a start before the submission becomes the submission, an end before
    the start becomes the start. `frame.attrs["mended"]` has the number of corrected rows. A schedule before the
    submission (a run made for last month) becomes the submission too, because waiting counts from there.

    Args:
        frame: Any subset of the columns above; `deployment`, `submitted_s` and `state` are needed. Columns with other
            names are left out.

    Raises:
        InvalidInputError: A needed column is missing, or a column of numbers holds something else.
    """
    for name in REQUIRED:
        if name not in frame.columns:
            raise InvalidInputError(
                "columns of runs", sorted(map(str, frame.columns)), f"the column {name!r} is needed"
            )
    columns: dict[str, object] = {}
    for name in TEXT:
        columns[name] = frame[name] if name in frame.columns else pd.Series(None, index=frame.index, dtype=object)
    for name in (*TIMES, *NUMBERS):
        try:
            columns[name] = (
                pd.to_numeric(frame[name]).astype(float) if name in frame.columns else np.full(len(frame), np.nan)
            )
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"column {name!r} of runs", str(error), "must hold numbers") from error
    table = pd.DataFrame(columns, index=frame.index)
    known = table[np.isfinite(table["submitted_s"])]
    runs: pd.DataFrame = known.sort_values("submitted_s", kind="stable").reset_index(drop=True)
    runs["scheduled_s"] = runs["scheduled_s"].clip(lower=runs["submitted_s"])
    early = runs["started_s"] < runs["submitted_s"]
    runs.loc[early, "started_s"] = runs.loc[early, "submitted_s"]
    backwards = runs["ended_s"] < runs["started_s"]
    runs.loc[backwards, "ended_s"] = runs.loc[backwards, "started_s"]
    runs["failed"] = runs["state"].isin(FAILED_STATES)
    runs.attrs["mended"] = int((early | backwards).sum())
    return runs


def settled(runs: pd.DataFrame) -> pd.Series:
    """Which runs have an outcome and a duration to learn from: started, ended, and not cancelled."""
    ended: pd.Series = runs["ended_s"].notna() & runs["started_s"].notna() & runs["state"].isin(FINAL_STATES)
    return ended & (runs["state"] != "CANCELLED")


def duration_s(runs: pd.DataFrame) -> pd.Series:
    """Seconds for which each run held its slot; NaN if it has not ended."""
    seconds: pd.Series = runs["ended_s"] - runs["started_s"]
    return seconds


def from_swf(frame: pd.DataFrame, *, warm_up_s: float = 0.0) -> pd.DataFrame:
    """Runs from a workload log with the columns of the Standard Workload Format.

    Deployment is the user, queue the group, size the number of processors and expected duration the user's time limit.
    Negative numbers are "not recorded" in that format. Status 1 is completed, 0 failed, 5 cancelled; 2 and 3 are parts
    of a run that completed and 4 a part that failed. A run of unknown status counts as cancelled, unless the whole log
    has no status: then every run counts as completed, so that durations can be learned. A column that the format does
    not have is a parameter of the runs, so it must hold what was known when they were submitted.

    Args:
        frame: `submit`, `wait`, `run`, `status`, `user`, and `procs`, `reqtime`, `group` where the log has them.
        warm_up_s: Rows submitted in this many first seconds of the log are dropped (a machine's start-up).

    Raises:
        InvalidInputError: A needed column is missing or holds no numbers, or no usable row is left.
    """
    for name in ("submit", "wait", "run", "status", "user"):
        if name not in frame.columns:
            raise InvalidInputError(
                "columns of the trace", sorted(map(str, frame.columns)), f"the column {name!r} is needed"
            )
    frame = frame.copy()
    for name in {"submit", "wait", "run", "status", "procs", "reqtime", "group"} & set(frame.columns):
        try:
            frame[name] = pd.to_numeric(frame[name]).replace([np.inf, -np.inf], np.nan)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"column {name!r} of the trace", str(error), "must hold numbers") from error
    if frame["submit"].isna().all():
        raise InvalidInputError("column 'submit' of the trace", "no value", "must hold numbers")
    kept = frame[(frame["run"] >= 0) & (frame["submit"] >= frame["submit"].min() + warm_up_s)]
    if kept.empty:
        raise InvalidInputError("trace", f"{len(frame)} rows", "no row with a run time is left; is it the right file?")

    def number(name: str) -> pd.Series:
        if name not in kept.columns:
            return pd.Series(np.nan, index=kept.index)
        column: pd.Series = kept[name].astype(float)
        return column.where(column >= 0)

    started = kept["submit"] + number("wait").fillna(0.0)
    state = kept["status"].map(SWF_STATUS)
    runs = pd.DataFrame(
        {
            "run_id": kept["job"].astype(str) if "job" in kept.columns else kept.index.astype(str),
            "pool": "trace",
            "queue": "group " + number("group").fillna(-1).astype(int).astype(str),
            "deployment": "user " + kept["user"].astype(str),
            "state": state.fillna("COMPLETED" if state.isna().all() else "CANCELLED"),
            "submitted_s": kept["submit"],
            "scheduled_s": kept["submit"],
            "started_s": started,
            "ended_s": started + kept["run"],
            "size": number("procs"),
            "expected_s": number("reqtime").replace(0.0, np.nan),
            "parameters": _extra_columns(kept),
        }
    )
    return as_runs(runs)


def _extra_columns(frame: pd.DataFrame) -> pd.Series:
    """The parameters of each row as a line of JSON; None without extra columns."""
    extra = frame[[name for name in frame.columns if str(name).lower() not in SWF_COLUMNS]]
    if extra.empty:
        return pd.Series(None, index=frame.index, dtype=object)
    rows = extra.astype(object).where(extra.notna(), None).to_dict("records")
    return pd.Series([pack(bounded({str(name): value for name, value in row.items()})) for row in rows], frame.index)

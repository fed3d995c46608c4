"""A recorded workload: one row per run, and every line that could not be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import networkx as nx
import pandas as pd

from prefect_intelligent.errors import InvalidInputError

COLUMNS: Final = {
    "id": "string",
    "workflow": "string",
    "deployment": "string",
    "queue": "string",
    "submit_s": "float64",
    "duration_s": "float64",
    "estimate_s": "float64",
    "wait_s": "float64",
    "slots": "int64",
    "failed": "boolean",
    "parents": "object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A line of a trace that was left out.

    Attributes:
        path: The file.
        line: Its line, from 1; for JSON documents the number of the item.
        reason: What is wrong with it.
    """

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A recorded workload.

    Attributes:
        source: Where it was read from.
        format: Name of the reader.
        runs: One row per run, by submission. `submit_s` counts from the first run of the trace and is NaN where the
            format records no arrivals; `estimate_s` and `wait_s` are NaN where unknown, `failed` is NA; `parents` is a
            tuple of ids.
        problems: Lines that were left out.
    """

    source: Path
    format: str
    runs: pd.DataFrame
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.runs)


@dataclass(slots=True)
class TraceBuilder:
    """Collects rows and problems; `build` makes the checks that need all rows.

    Attributes:
        path: The file being read.
        format: Name of the reader.
    """

    path: Path
    format: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def reject(self, line: int, reason: str) -> None:
        """Leave a line out and say why."""
        self.problems.append(Problem(path=self.path, line=line, reason=reason))

    def attempt(self, line: int, make: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Keep the rows that `make` makes of a line; reject the line if a field has a wrong type."""
        try:
            rows = list(make())
            for row in rows:
                for name in ("duration_s", "submit_s", "wait_s", "estimate_s"):
                    float(row.get(name, math.nan))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.reject(line, f"a field is of the wrong kind ({error})")
            return
        for row in rows:
            self.add(line, row)

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        """Keep a row if its times make sense, else reject it."""
        duration, submit = float(row["duration_s"]), float(row.get("submit_s", math.nan))
        if not math.isfinite(duration):
            self.reject(line, f"the duration is {row['duration_s']!r}, not a number of seconds")
        elif duration < 0:
            self.reject(line, f"the duration is negative ({duration:g} s)")
        elif math.isinf(submit):
            self.reject(line, f"the submission is {row['submit_s']!r}, not a number of seconds")
        else:
            self.rows.append({"line": line, **row})

    def build(self) -> Trace:
        """The trace.

        Raises:
            InvalidInputError: Nothing could be read, or the dependencies have a cycle.
        """
        if not self.rows:
            first = f"; first problem: {self.problems[0]}" if self.problems else ""
            raise InvalidInputError("trace", str(self.path), f"no run could be read as {self.format!r}{first}")
        runs = pd.DataFrame(self.rows)
        for name in COLUMNS:
            if name not in runs:
                runs[name] = _MISSING[name] if name != "parents" else [()] * len(runs)
        runs = self._dated(runs.astype(COLUMNS | {"line": "int64"}))
        runs["workflow"] = runs["workflow"].fillna(runs["id"])
        runs = self._linked(runs)
        runs["submit_s"] -= runs["submit_s"].min()
        runs = runs.sort_values(["submit_s", "line"], kind="stable").drop(columns="line").reset_index(drop=True)
        return Trace(source=self.path, format=self.format, runs=runs[list(COLUMNS)], problems=tuple(self.problems))

    def _dated(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The rows with a known time of submission; all rows if the format records none."""
        unknown = runs["submit_s"].isna()
        if unknown.all():
            return runs
        for line in runs.loc[unknown, "line"]:
            self.reject(int(line), "has no time of submission")
        return runs.loc[~unknown].reset_index(drop=True)

    def _linked(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The rows without repeated ids and without links to runs that are not in the trace.

        Raises:
            InvalidInputError: The links have a cycle.
        """
        repeated = runs["id"].duplicated()
        for line, name in runs.loc[repeated, ["line", "id"]].itertuples(index=False):
            self.reject(int(line), f"the id {name!r} was used before")
        runs = runs.loc[~repeated].reset_index(drop=True)
        if not runs["parents"].map(len).any():
            return runs
        known = set(runs["id"])
        for line, name, parents in runs[["line", "id", "parents"]].itertuples(index=False):
            for parent in parents:
                if parent not in known:
                    self.reject(
                        int(line), f"run {name!r} waits for {parent!r}, which is not in the trace; link left out"
                    )
        runs["parents"] = runs["parents"].map(lambda parents: tuple(p for p in parents if p in known))
        links = nx.DiGraph(
            (parent, name) for name, parents in zip(runs["id"], runs["parents"], strict=True) for parent in parents
        )
        if not nx.is_directed_acyclic_graph(links):
            circle = [edge[0] for edge in nx.find_cycle(links)]
            raise InvalidInputError(
                f"dependencies in {self.path}",
                " -> ".join([*circle, circle[0]]),
                "runs must not wait for each other in a circle",
            )
        return runs


_MISSING: Final[Mapping[str, Any]] = {
    "id": None,
    "workflow": None,
    "deployment": "run",
    "queue": "default",
    "submit_s": math.nan,
    "duration_s": math.nan,
    "estimate_s": math.nan,
    "wait_s": math.nan,
    "slots": 1,
    "failed": None,
}


def first_key(item: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The value of the first of `keys` that the item has and that is not None; else None."""
    return next((item[key] for key in keys if item.get(key) is not None), None)

"""The history of runs on SQLAlchemy Core: written by `history.sync`, read as typed pandas frames.

One reading function per kind of thing; each says what its columns mean. The tables are in `run_tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, Select, Table, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from prefect_intelligent.errors import StoreError
from prefect_intelligent.history.adapters.migrations import upgrade
from prefect_intelligent.history.adapters.packed_days import pack, read_columns
from prefect_intelligent.history.adapters.sql_tables import (
    CODED,
    CURSORS,
    DEPLOYMENTS,
    EVENTS,
    NAMES,
    QUEUES,
    RUNS,
    STATES,
    TASK_RUNS,
)
from prefect_intelligent.history.rows import (
    RUN_STATES,
    DeploymentFact,
    EventFact,
    QueueFact,
    RunFact,
    StateFact,
    TaskRunFact,
)
from prefect_intelligent.history.runs_frame import FAILED_STATES

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")
_STATE_CODE: Final = {name: code for code, name in enumerate(RUN_STATES)}


def _guarded(method: Callable[_Args, _Out]) -> Callable[_Args, _Out]:
    """Turn what SQLAlchemy raises into one line of ours."""

    @wraps(method)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Out:
        try:
            return method(*args, **kwargs)
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"the history of runs cannot be used: {str(cause).strip().splitlines()[0]}") from error

    return call


class SqlRuns:
    """`RunStore` on a database, and what reads it back.

    Args:
        engine: From `history.adapters.sql_records.open_engine`; its schema is brought up to date here.
    """

    @_guarded
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._numbers: dict[str, int] = {}
        upgrade(engine)

    @_guarded
    def cursor(self, name: str) -> float | None:
        """Up to which instant `name` has been copied; None if never."""
        with self._engine.connect() as connection:
            found = connection.execute(select(CURSORS.c.at_s).where(CURSORS.c.name == name)).scalar_one_or_none()
        return None if found is None else float(found)

    @_guarded
    def put(
        self,
        *,
        runs: Sequence[RunFact] = (),
        task_runs: Sequence[TaskRunFact] = (),
        events: Sequence[EventFact] = (),
        states: Sequence[StateFact] = (),
        cursor: tuple[str, float] | None = None,
    ) -> None:
        """Keep rows and move a cursor, all or nothing; a row with a known key replaces the old one."""
        fresh: dict[str, int] = {}
        with self._engine.begin() as connection:
            if runs:
                self._learn_names(connection, runs, fresh)
                numbers = self._numbers | fresh
                self._upsert(connection, RUNS, [_coded(run, numbers) for run in runs])
            self._upsert(connection, TASK_RUNS, [row._asdict() for row in task_runs])
            self._upsert(connection, EVENTS, [row._asdict() for row in events])
            self._upsert(connection, STATES, [row._asdict() for row in states])
            if cursor is not None:
                self._upsert(connection, CURSORS, [{"name": cursor[0], "at_s": cursor[1]}])
        self._numbers.update(fresh)  # only now are they there for good

    @_guarded
    def put_deployments(self, deployments: Sequence[DeploymentFact]) -> None:
        """Keep the deployments as they are now; those that have gone stay as they were."""
        with self._engine.begin() as connection:
            self._upsert(connection, DEPLOYMENTS, [row._asdict() for row in deployments])

    @_guarded
    def put_queues(self, queues: Sequence[QueueFact]) -> int:
        """Keep settings that differ from those kept last; returns how many did."""
        with self._engine.begin() as connection:
            last = {
                (row.pool, row.queue): (row.priority, row.limit, row.paused)
                for row in connection.execute(select(QUEUES).order_by(QUEUES.c.at_s))
            }
            changed = [
                row for row in queues if last.get((row.pool, row.queue)) != (row.priority, row.limit, row.paused)
            ]
            self._upsert(connection, QUEUES, [row._asdict() for row in changed])
        return len(changed)

    @_guarded
    def pack(self, before_s: float) -> int:
        """Copy past days column by column, so that they are read much faster; returns how many were copied."""
        return pack(self._engine, before_s)

    @_guarded
    def run_frame(
        self,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        pool: str | None = None,
        extra: bool = True,
        parameters: bool = False,
    ) -> pd.DataFrame:
        """Runs submitted in the span, by submission: the columns of `history.runs_frame` without `run_id`.

        Texts are categoricals; `failed` is set.

        Args:
            since_s: Start of the span; None for all.
            until_s: End of the span; None for all.
            pool: Only those of this pool.
            extra: Whether `size`, `expected_s` and `attempts` are read too.
            parameters: Whether `parameters` is read too, which forecasting needs.
        """
        with self._engine.connect() as connection:
            names = dict(connection.execute(select(NAMES.c.number, NAMES.c.name)).tuples().all())
        number = None if pool is None else next((key for key, name in names.items() if name == pool), -1)
        span = {"since_s": since_s, "until_s": until_s}
        table = read_columns(self._engine, **span, pool=number, extra=extra, parameters=parameters)
        columns: dict[str, Any] = {name: _named(table.pop(name), names) for name in CODED}
        states = table.pop("state")
        columns["state"] = _categorical(states, RUN_STATES)
        columns |= table
        frame = pd.DataFrame(columns)
        frame["failed"] = np.isin(states, [_STATE_CODE[name] for name in FAILED_STATES])
        frame.attrs["mended"] = _mend(frame)
        return frame

    @_guarded
    def first_submitted_s(self, pool: str) -> float | None:
        """When the first run of a pool was submitted, Unix seconds; None if there is none."""
        of_pool = select(NAMES.c.number).where(NAMES.c.name == pool).scalar_subquery()
        with self._engine.connect() as con:
            found = con.execute(select(func.min(RUNS.c.submitted_s)).where(RUNS.c.pool == of_pool)).scalar()
        return None if found is None else float(found)

    @_guarded
    def task_run_frame(self, *, since_s: float | None = None) -> pd.DataFrame:
        """Task runs: task_run_id, run_id, name, state, started_s, ended_s, attempts."""
        wanted = select(TASK_RUNS).order_by(TASK_RUNS.c.started_s)
        return self._frame(wanted if since_s is None else wanted.where(TASK_RUNS.c.started_s >= since_s))

    @_guarded
    def state_frame(self, *, since_s: float | None = None) -> pd.DataFrame:
        """Changes of state: run_id, at_s, state, name; by instant."""
        wanted = select(STATES).order_by(STATES.c.at_s)
        return self._frame(wanted if since_s is None else wanted.where(STATES.c.at_s >= since_s))

    @_guarded
    def passage_frame(self, pool: str, *, since_s: float | None = None) -> pd.DataFrame:
        """Changes of state of a pool's runs, by instant: run_id, at_s, state, name, deployment, queue, scheduled_s."""
        deployment, queue = NAMES.alias(), NAMES.alias()
        of_pool = select(NAMES.c.number).where(NAMES.c.name == pool).scalar_subquery()
        early = RUNS.c.scheduled_s < RUNS.c.submitted_s  # a run made for last month
        could_start = case((early, RUNS.c.submitted_s), else_=RUNS.c.scheduled_s).label("scheduled_s")
        wanted = (
            select(STATES, deployment.c.name.label("deployment"), queue.c.name.label("queue"), could_start)
            .join(RUNS, RUNS.c.run_id == STATES.c.run_id)
            .join(deployment, deployment.c.number == RUNS.c.deployment, isouter=True)
            .join(queue, queue.c.number == RUNS.c.queue, isouter=True)
            .where(RUNS.c.pool == of_pool)
            .order_by(STATES.c.at_s)
        )
        return self._frame(wanted if since_s is None else wanted.where(STATES.c.at_s >= since_s))

    @_guarded
    def event_frame(self, *, since_s: float | None = None, prefix: str = "") -> pd.DataFrame:
        """Events whose name starts with `prefix`: event_id, at_s, event, resource, payload (JSON text); by instant."""
        wanted = select(EVENTS).where(EVENTS.c.event.startswith(prefix, autoescape=True)).order_by(EVENTS.c.at_s)
        return self._frame(wanted if since_s is None else wanted.where(EVENTS.c.at_s >= since_s))

    @_guarded
    def deployment_frame(self) -> pd.DataFrame:
        """Deployments: deployment_id, name, pool, queue, version, paused, updated_s, details (JSON text); by name."""
        return self._frame(select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.name))

    @_guarded
    def queue_frame(self) -> pd.DataFrame:
        """Settings over time: pool, queue ("" is the pool itself), at_s, priority, limit, paused; by instant."""
        return self._frame(select(QUEUES).order_by(QUEUES.c.at_s))

    @_guarded
    def failures(self, *, since_s: float, limit: int = 200) -> list[dict[str, Any]]:
        """The last failed runs: run_id, name, deployment, cause, ended_s, message; newest first."""
        deployment, cause = NAMES.alias(), NAMES.alias()
        failed = [_STATE_CODE[name] for name in FAILED_STATES]
        wanted = (
            select(
                RUNS.c.run_id,
                RUNS.c.name,
                deployment.c.name.label("deployment"),
                cause.c.name.label("cause"),
                RUNS.c.ended_s,
                RUNS.c.message,
            )
            .join(deployment, deployment.c.number == RUNS.c.deployment, isouter=True)
            .join(cause, cause.c.number == RUNS.c.cause, isouter=True)
            .where(RUNS.c.state.in_(failed), RUNS.c.ended_s >= since_s)
            .order_by(RUNS.c.ended_s.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]

    @_guarded
    def ended_runs(
        self, *, since_s: float, pool: str | None = None, deployment: str | None = None, limit: int = 200
    ) -> list[dict[str, Any]]:
        """The last runs that have ended, newest end first.

        Args:
            since_s: They have ended since then, Unix seconds.
            pool: Only those of this pool.
            deployment: Only those of this deployment.
            limit: Largest number.

        Returns:
            Of each run_id, name, deployment, queue, cause, state, scheduled_s, started_s, ended_s, due_s; what is not
            known is None.
        """
        of = {name: NAMES.alias() for name in ("pool", "deployment", "queue", "cause")}
        plain = (RUNS.c[name] for name in ("run_id", "name", "state", "scheduled_s", "started_s", "ended_s", "due_s"))
        wanted = select(*plain, *(of[name].c.name.label(name) for name in ("deployment", "queue", "cause")))
        for name, alias in of.items():
            wanted = wanted.join(alias, alias.c.number == RUNS.c[name], isouter=True)
        wanted = wanted.where(RUNS.c.ended_s >= since_s)
        for name, value in (("pool", pool), ("deployment", deployment)):
            if value is not None:
                wanted = wanted.where(of[name].c.name == value)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(RUNS.c.ended_s.desc()).limit(limit)).mappings().all()
        return [{**row, "state": RUN_STATES[row["state"]]} for row in rows]

    @_guarded
    def counts(self) -> Mapping[str, int]:
        """Rows per table."""
        tables = {"runs": RUNS, "task_runs": TASK_RUNS, "events": EVENTS, "states": STATES, "deployments": DEPLOYMENTS}
        with self._engine.connect() as connection:
            return {
                name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for name, table in tables.items()
            }

    def _learn_names(self, connection: Connection, runs: Iterable[RunFact], fresh: dict[str, int]) -> None:
        wanted = {value for run in runs for name in CODED if (value := getattr(run, name)) is not None}
        missing = sorted(wanted - self._numbers.keys())
        for start in range(0, len(missing), 500):
            part = missing[start : start + 500]
            insert = self._insert(NAMES).on_conflict_do_nothing(index_elements=["name"])
            connection.execute(insert, [{"name": name} for name in part])
            for number, name in connection.execute(select(NAMES.c.number, NAMES.c.name).where(NAMES.c.name.in_(part))):
                fresh[name] = number

    def _insert(self, table: Table) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)

    def _upsert(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=others), list(rows))

    def _frame(self, wanted: Select[Any]) -> pd.DataFrame:
        with self._engine.connect() as connection:
            rows = connection.execute(wanted)
            return pd.DataFrame(rows.all(), columns=list(rows.keys()))


def _coded(run: RunFact, numbers: Mapping[str, int]) -> dict[str, Any]:
    row = run._asdict()
    row["state"] = _STATE_CODE[run.state]
    for name in CODED:
        if row[name] is not None:
            row[name] = numbers[row[name]]
    return row


def _categorical(codes: Any, names: Sequence[str]) -> Any:
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(names)))


def _named(numbers: np.ndarray[Any, np.dtype[np.int32]], names: Mapping[int, str]) -> Any:
    """Categoricals for numbers of names; 0 is none."""
    known = np.flatnonzero(np.bincount(numbers))
    known = known[known > 0]
    place = np.full(int(known.max(initial=0)) + 1, -1, dtype=np.int64)
    place[known] = np.arange(len(known))
    return _categorical(place[numbers], [names[int(number)] for number in known])


def _mend(frame: pd.DataFrame) -> int:
    """Move instants that lie before the one they follow, as `runs_frame.as_runs` does; returns how many rows."""
    submitted, started, ended = (frame[name].to_numpy(copy=True) for name in ("submitted_s", "started_s", "ended_s"))
    early = started < submitted
    started[early] = submitted[early]
    backwards = ended < started
    ended[backwards] = started[backwards]
    frame["started_s"], frame["ended_s"] = started, ended
    frame["scheduled_s"] = np.maximum(frame["scheduled_s"].to_numpy(), submitted)  # NaN stays
    return int((early | backwards).sum())

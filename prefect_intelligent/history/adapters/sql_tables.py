"""Tables of the history: our own records, and runs, whose texts are numbers of names: a million are read in seconds.

Every change here needs a revision in `migrations`, where the triggers of `pi_runs` are made too.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData()

RECORDS = Table(
    "pi_records",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(40), nullable=False),
    Column("pool", String(200), nullable=False),
    Column("at_s", Double, nullable=False),
    Column("record", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    Index("pi_records_newest", "kind", "pool", "id"),
)
"""Records of our own; `version` is that of the record's kind (`local.record_versions`)."""

NAMES = Table(
    "pi_names",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
)

CODED = ("pool", "queue", "deployment", "version", "host", "cause")
"""Columns of `pi_runs` that hold numbers of names."""

RUNS = Table(
    "pi_runs",
    METADATA,
    Column("run_id", String(64), primary_key=True),
    Column("name", Text),
    *(Column(name, Integer) for name in ("pool", "queue", "deployment", "version", "host")),
    Column("state", SmallInteger, nullable=False),
    Column("cause", Integer),
    Column("scheduled_s", Double),
    Column("submitted_s", Double, nullable=False),
    *(Column(name, Double) for name in ("started_s", "ended_s", "due_s", "size", "expected_s")),
    Column("attempts", Integer),
    Column("late_usd_per_hour", Double),
    Column("failure_usd", Double),
    Column("message", Text),
    Column("parameters", Text),
    Index("pi_runs_submitted", "submitted_s"),
    Index("pi_runs_ended", "ended_s"),
)

DAYS = Table(
    "pi_run_days",
    METADATA,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("columns", LargeBinary, nullable=False),
)
"""Copies of whole days (UTC, by submission) of `pi_runs`, column by column; SQLite only."""

TASK_RUNS = Table(
    "pi_task_runs",
    METADATA,
    Column("task_run_id", String(64), primary_key=True),
    Column("run_id", String(64)),
    Column("name", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("started_s", Double),
    Column("ended_s", Double),
    Column("attempts", Integer),
    Index("pi_task_runs_of_run", "run_id"),
)

EVENTS = Table(
    "pi_events",
    METADATA,
    Column("event_id", String(64), primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("event", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Index("pi_events_at", "at_s"),
)

STATES = Table(
    "pi_states",
    METADATA,
    Column("run_id", String(64), primary_key=True),
    Column("at_s", Double, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("name", Text, primary_key=True),
)

DEPLOYMENTS = Table(
    "pi_deployments",
    METADATA,
    Column("deployment_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("pool", Text),
    Column("queue", Text),
    Column("version", Text),
    Column("paused", Boolean, nullable=False),
    Column("updated_s", Double, nullable=False),
    Column("details", Text, nullable=False),
)

QUEUES = Table(
    "pi_queues",
    METADATA,
    Column("pool", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    Column("at_s", Double, primary_key=True),
    Column("priority", Integer),
    Column("limit", Integer),
    Column("paused", Boolean, nullable=False),
)

CURSORS = Table(
    "pi_cursors",
    METADATA,
    Column("name", String(80), primary_key=True),
    Column("at_s", Double, nullable=False),
)

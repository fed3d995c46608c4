"""The tables of version 0.1.0, which had no numbers of schemas; what of them is there already stays as it is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make the tables, indexes and triggers that are missing."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    _table(
        op,
        "pi_records",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("pool", sa.String(200), nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("record", json, nullable=False),
    )
    _index(op, "pi_records_newest", "pi_records", "kind", "pool", "id")
    _table(
        op,
        "pi_names",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    _table(
        op,
        "pi_runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text),
        *(sa.Column(name, sa.Integer) for name in ("pool", "queue", "deployment", "version", "host")),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("cause", sa.Integer),
        sa.Column("scheduled_s", sa.Double),
        sa.Column("submitted_s", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("started_s", "ended_s", "due_s", "size", "expected_s")),
        sa.Column("attempts", sa.Integer),
        sa.Column("late_usd_per_hour", sa.Double),
        sa.Column("failure_usd", sa.Double),
        sa.Column("message", sa.Text),
    )
    _index(op, "pi_runs_submitted", "pi_runs", "submitted_s")
    _index(op, "pi_runs_ended", "pi_runs", "ended_s")
    _table(
        op,
        "pi_run_days",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("columns", sa.LargeBinary, nullable=False),
    )
    _table(
        op,
        "pi_task_runs",
        sa.Column("task_run_id", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(64)),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("started_s", sa.Double),
        sa.Column("ended_s", sa.Double),
        sa.Column("attempts", sa.Integer),
    )
    _index(op, "pi_task_runs_of_run", "pi_task_runs", "run_id")
    _table(
        op,
        "pi_events",
        sa.Column("event_id", sa.String(64), primary_key=True),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    _index(op, "pi_events_at", "pi_events", "at_s")
    _table(
        op,
        "pi_states",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("at_s", sa.Double, primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("name", sa.Text, primary_key=True),
    )
    _table(
        op,
        "pi_deployments",
        sa.Column("deployment_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("pool", sa.Text),
        sa.Column("queue", sa.Text),
        sa.Column("version", sa.Text),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("updated_s", sa.Double, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    _table(
        op,
        "pi_queues",
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("at_s", sa.Double, primary_key=True),
        sa.Column("priority", sa.Integer),
        sa.Column("limit", sa.Integer),
        sa.Column("paused", sa.Boolean, nullable=False),
    )
    _table(
        op,
        "pi_cursors",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("at_s", sa.Double, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, event, *rows in (
            ("pi_runs_inserted", "INSERT", "NEW"),
            ("pi_runs_updated", "UPDATE", "OLD", "NEW"),
            ("pi_runs_deleted", "DELETE", "OLD"),
        ):
            body = " ".join(
                f"DELETE FROM pi_run_days WHERE day = CAST({row}.submitted_s / 86400 AS INTEGER);" for row in rows
            )
            op.execute(f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON pi_runs BEGIN {body} END")


def _table(op: Operations, name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _index(op: Operations, name: str, table: str, *columns: str) -> None:
    op.create_index(name, table, list(columns), if_not_exists=True)

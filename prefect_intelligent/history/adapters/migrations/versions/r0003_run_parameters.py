"""What a run was asked to do, typed and bounded; runs copied before have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"


def upgrade(op: Operations) -> None:
    """Add the column, on both databases without touching a row; it is there where only the number was lost.

    Copies of days lack it, so they are made again.
    """
    if "parameters" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("pi_runs")}:
        op.add_column("pi_runs", sa.Column("parameters", sa.Text))
        op.execute("DELETE FROM pi_run_days")

"""Every record says which version of its kind it is; those written before are of version 1."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    """Add the column, on both databases without touching a row; it is there where only the number was lost."""
    if "version" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("pi_records")}:
        op.add_column("pi_records", sa.Column("version", sa.Integer, nullable=False, server_default="1"))

"""The last good snapshot of a dataset: saved after a verification that passed, restored by a rollback.

Snapshots are tables (TABLE__good in the same schema) or files (FILE.good); frames have none. The data that a rollback
replaces is kept as TABLE__bad_RUN or FILE.bad-RUN.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.quality.adapters.editing.sessions import EditSession, open_session
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError, quoted

_GOOD = "__good"


def save_snapshot(dataset: Dataset, table: str) -> bool:
    """Copy the dataset; see `DatasetEditor.save_snapshot`."""
    if dataset.kind is DataKind.FRAME:
        return False
    if dataset.kind in (DataKind.DUCKDB, DataKind.POSTGRES):
        with open_session(dataset, table) as session:
            good = _with_suffix(session, _GOOD)
            session.execute(f"DROP TABLE IF EXISTS {good}")
            session.execute(f"CREATE TABLE {good} AS SELECT * FROM {session.source}")
        return True
    _copy(Path(dataset.location), Path(f"{dataset.location}.good"))
    return True


def restore_snapshot(dataset: Dataset, table: str, run_id: str) -> bool:
    """Restore the snapshot; see `DatasetEditor.restore_snapshot`."""
    tag = re.sub(r"[^A-Za-z0-9]", "", run_id)[:12] or "run"
    if dataset.kind is DataKind.FRAME:
        return False
    if dataset.kind in (DataKind.DUCKDB, DataKind.POSTGRES):
        with open_session(dataset, table) as session:
            good, bad = _with_suffix(session, _GOOD), _with_suffix(session, f"__bad_{tag}")
            if not session.exists(good):
                return False
            # Rows are replaced, not the table, so that its grants, indexes and views stay.
            session.execute(f"CREATE TABLE IF NOT EXISTS {bad} AS SELECT * FROM {session.source}")
            columns = ", ".join(quoted(c) for c in session.columns(good))
            present = session.columns(session.source)
            for name, kind in session.columns(good).items():
                if name not in present:  # removed or renamed since the snapshot
                    session.execute(f"ALTER TABLE {session.source} ADD COLUMN {quoted(name)} {kind}")
                elif present[name] != kind:
                    raise SourceError(f"{dataset}: column {name} was {kind} and is {present[name]}")
            session.execute(f"DELETE FROM {session.source}")
            session.execute(f"INSERT INTO {session.source} ({columns}) SELECT {columns} FROM {good}")
        return True
    path = Path(dataset.location)
    good_file = Path(f"{path}.good")
    if not good_file.is_file():
        return False
    _copy(path, Path(f"{path}.bad-{tag}"))
    _copy(good_file, path)
    return True


def _with_suffix(session: EditSession, suffix: str) -> str:
    """The quoted name of the dataset's table with a suffix, in the same schema."""
    return f'{session.source[:-1]}{suffix}"'


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    shutil.copyfile(source, draft)
    draft.replace(target)

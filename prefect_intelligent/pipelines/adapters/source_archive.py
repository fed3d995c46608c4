"""Pack a source tree into a reproducible archive, and unpack it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prefect_intelligent.errors import InvalidInputError, StoreError

MAX_BYTES: Final = 100 * 1024 * 1024
_SKIPPED: Final = frozenset({".git", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache", ".pytest_cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A packed source tree.

    Attributes:
        archive: Gzipped tar; equal files give equal bytes.
        commit: Git commit of the folder; None outside a repository.
        changes: Diff of uncommitted changes; empty without any.
    """

    archive: bytes
    commit: str | None
    changes: str


def pack(folder: Path) -> SourceTree:
    """Pack the files of a folder: those that git does not ignore, or all files outside a repository.

    Raises:
        InvalidInputError: The folder does not exist or is too large.
    """
    if not folder.is_dir():
        raise InvalidInputError("--source", str(folder), "is not a folder")
    listed = _git(folder, "ls-files", "-co", "--exclude-standard", "-z")
    if listed is not None:
        paths = sorted({folder / name for name in listed.split("\0") if name})
    else:
        paths = sorted(
            Path(root) / name
            for root, folders, names in os.walk(folder)
            if not folders.sort() and _keep(folders)
            for name in names
        )
    files = [path for path in paths if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"]
    total = sum(path.stat().st_size for path in files)
    if total > MAX_BYTES:
        raise InvalidInputError(
            "--source",
            str(folder),
            f"holds {total >> 20} MiB, at most {MAX_BYTES >> 20}; keep data out of it (.gitignore)",
        )
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in files:
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            content = path.read_bytes()
            info.size, info.mode = len(content), 0o755 if os.access(path, os.X_OK) else 0o644
            tar.addfile(info, io.BytesIO(content))
    commit = _git(folder, "rev-parse", "HEAD")
    changes = ""
    if commit is not None:
        changed = (_git(folder, *words, "--", ".") for words in (("status", "--porcelain"), ("diff", "HEAD")))
        changes = "".join(text or "" for text in changed)
    return SourceTree(archive=gzip.compress(raw.getvalue(), mtime=0), commit=commit and commit.strip(), changes=changes)


def _keep(folders: list[str]) -> bool:
    """Remove folders without source from a list in place; always true."""
    folders[:] = [name for name in folders if name not in _SKIPPED]
    return True


def _git(folder: Path, *words: str) -> str | None:
    """Return the output of a git command; None if it fails, outside a repository or without git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the content of the files of a packed source tree by path.

    Raises:
        StoreError: The archive cannot be read.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            return {item.name: file.read() for item in tar if (file := tar.extractfile(item)) is not None}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StoreError(f"the source cannot be read: {error}") from error


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack into a new folder atomically; no effect if the folder exists.

    Raises:
        StoreError: The archive cannot be read.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name[:12]}-", dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            tar.extractall(draft, filter="data")
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another run has unpacked it
                raise
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StoreError(f"the source cannot be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)

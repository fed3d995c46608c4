"""Folders as bytes, to be sent to another machine."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path


def pack(folder: Path) -> bytes:
    """The files of a folder, so that they can be sent to another machine; `unpack` writes them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return packed.getvalue()


def unpack(packed: bytes, folder: Path) -> Path:
    """Write packed files into a folder, which is made, and return it."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder)
    return folder

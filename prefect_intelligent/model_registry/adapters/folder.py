"""The policy store in a folder: one folder per version, and a log of aliases with their reasons."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.errors import StoreError, UnknownNameError
from prefect_intelligent.policy.bundle import MANIFEST, WEIGHTS, read_bundle

_LOG: Final = "aliases.jsonl"


class PolicyFiles:
    """A `PolicyStore` in a folder; several processes may use it.

    Args:
        root: The folder; created when the first version is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, folder: Path) -> str:
        """Check a bundle and copy it into the store; it appears when it is complete."""
        read_bundle(folder)
        version = _sha256(folder)[:12]
        place = self.root / version
        if place.exists():
            return version
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=self.root, prefix=".adding-"))
            for name in (MANIFEST, WEIGHTS):
                shutil.copyfile(folder / name, unfinished / name)
            os.replace(unfinished, place)
        except OSError as error:
            raise StoreError(f"policy store {self.root}: {error}") from error
        return version

    def folder(self, version: str) -> Path:
        """The folder with the bundle of a version."""
        versions = [entry.name for entry in self.root.iterdir() if entry.is_dir()] if self.root.exists() else []
        if version not in versions:
            raise UnknownNameError("policy version", version, (name for name in versions if not name.startswith(".")))
        return self.root / version

    def weights_sha256(self, version: str) -> str:
        """The fingerprint of a version's weights."""
        return _sha256(self.folder(version))

    def alias(self, name: str) -> str | None:
        """The version that has the alias; None if none has."""
        past = self.past(name)
        return past[-1] if past else None

    def past(self, name: str) -> Sequence[str]:
        """Versions that have had the alias, oldest first."""
        return [str(entry["version"]) for entry in self._entries() if entry["alias"] == name]

    def set_alias(self, name: str, version: str, *, why: str, at_s: float) -> None:
        """Append to the log; a line is written with one call, so that readers see all of it or nothing."""
        self.folder(version)
        line = json.dumps({"alias": name, "version": version, "why": why, "at_s": at_s}) + "\n"
        try:
            with (self.root / _LOG).open("a", encoding="utf-8") as log:
                log.write(line)
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise StoreError(f"policy store {self.root}: {error}") from error

    def _entries(self) -> list[dict[str, Any]]:
        try:
            text = (self.root / _LOG).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"policy store {self.root}: {error}") from error
        entries = []
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                entry["alias"], entry["version"]
            except (ValueError, KeyError, TypeError):
                continue  # half a line: the machine went down while it was written
            entries.append(entry)
        return entries


def _sha256(folder: Path) -> str:
    return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"])

"""Differences between two source trees and between two lists of packages, as text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

MOST_LINES: Final = 400


def file_diff(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[str]:
    """Return a unified diff of the files by path, at most 400 lines; binary files are only reported as different."""
    lines: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        try:
            old_text, new_text = (before or b"").decode(), (after or b"").decode()
        except UnicodeDecodeError:
            lines.append(f"{path}: differs (binary)")
            continue
        old_name, new_name = "/dev/null" if before is None else path, "/dev/null" if after is None else path
        found = difflib.unified_diff(old_text.splitlines(), new_text.splitlines(), old_name, new_name, n=2, lineterm="")
        lines += list(found) or [f"{old_name} -> {new_name}"]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... {len(lines) - MOST_LINES} more lines"]
    return lines


def package_diff(old: str, new: str) -> list[str]:
    """Return packages whose versions differ between two lists, one line each: "numpy: 2.1.0 -> 2.2.0"."""
    before, after = (dict(line.split("==", 1) for line in text.splitlines() if "==" in line) for text in (old, new))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in changed]

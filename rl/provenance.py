"""The commit that a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit of the checkout, with "+" if files differ from it; "unknown" outside git."""
    try:
        head, dirty = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")

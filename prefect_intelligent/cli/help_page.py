"""How help pages look: usage, a sentence, and panels of two columns, wrapped to the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

_WIDEST = 100  # columns; longer lines are hard to read
_LABELS = 24  # columns of the widest label that stands beside its text


def page(usage: str, summary: str, panels: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """A whole page.

    Args:
        usage: What to type.
        summary: What it is for.
        panels: Title and rows of each panel; a row is a label and a text.
    """
    parts = [head(usage), paragraph(summary), *(panel(title, rows) for title, rows in panels)]
    return "\n".join(part for part in parts if part)


def head(usage: str) -> str:
    """The line that says what to type."""
    return _filled(f"Usage: {usage}", "", " " * 7) + "\n"


def paragraph(text: str) -> str:
    """A text over the whole width; empty if it is."""
    return _filled(text, "", "") + "\n" if text else ""


def panel(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A title and its rows; a label that is too wide stands on a line of its own."""
    indent = 4 + min(_LABELS, max(len(label) for label, _ in rows))
    lines = [f"{title}:"]
    for label, text in rows:
        first = f"  {label}".ljust(indent)
        if not text or len(label) + 4 > indent:
            lines.append(first.rstrip())
            first = " " * indent
        if text:
            lines.append(_filled(text, first, " " * indent))
    return "\n".join(lines) + "\n"


def _filled(text: str, first: str, later: str) -> str:
    width = max(40, min(_WIDEST, shutil.get_terminal_size().columns))
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False, break_long_words=False
    )

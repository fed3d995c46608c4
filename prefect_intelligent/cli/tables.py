"""Tables for people: names stay whole, and what does not fit is left out with a word about it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

_GAP: Final = "  "
_NUMBER: Final = re.compile(r"[-+$]?[\d.,]+( ?(%|[a-z]{1,3}))?|-")
_LEAST_TEXT: Final = 24
"""Columns of a screen below which text is not wrapped but left out."""


def print_table(
    rows: Sequence[Mapping[str, str]],
    *,
    title: str | None = None,
    text: str | None = None,
    drop: Sequence[str] = (),
    hint: str = "--json has them",
) -> None:
    """Print rows that have the same headings.

    On a terminal, and where COLUMNS is set, columns that do not fit are left out and named; elsewhere there is no
    width to keep to.

    Args:
        rows: Heading to cell; the first column is never left out. Columns of numbers stand at the right.
        title: Printed above.
        text: Heading of a column of sentences, which is wrapped between words.
        drop: Headings in the order in which they are left out; the others follow from the right.
        hint: Where the columns left out can be seen.
    """
    if title:
        print(title)
    if not rows:
        return
    room = _room()
    widths = {heading: max(_width(heading), *(_width(row[heading]) for row in rows)) for heading in rows[0]}
    shown, left_out = list(widths), []
    going = [*(name for name in drop if name in widths), *(name for name in reversed(shown) if name not in drop)]
    if text in going:
        going.remove(text)
        going.append(text)
    going.remove(shown[0])
    if room is not None:
        for name in going:
            least = {**widths, **({text: min(widths[text], _LEAST_TEXT)} if text in shown else {})}
            if _total(shown, least) <= room:
                break
            shown.remove(name)
            left_out.append(name)
        if text in shown:
            widths[text] = min(widths[text], max(_LEAST_TEXT, room - _total(shown, widths) + widths[text]))
    numeric = {name for name in shown[1:] if all(_NUMBER.fullmatch(row[name]) for row in rows)}
    for row in [{name: name for name in shown}, {name: "-" * widths[name] for name in shown}, *rows]:
        _print_row(row, shown, widths, numeric, text)
    if left_out:
        print(f"Left out for want of room: {', '.join(sorted(left_out, key=list(rows[0]).index))}; {hint}.")


def _print_row(
    row: Mapping[str, str], shown: Sequence[str], widths: Mapping[str, int], numeric: set[str], text: str | None
) -> None:
    lines = [row[text]] if text in shown and text is not None else [""]
    if text in shown and text is not None:
        lines = textwrap.wrap(row[text], widths[text], break_long_words=False, break_on_hyphens=False) or [""]
    for at, line in enumerate(lines):
        cells = []
        for name in shown:
            cell = line if name == text else row[name] if at == 0 else ""
            blank = " " * (widths[name] - _width(cell))
            cells.append(blank + cell if name in numeric else cell + blank)
        print(_GAP.join(cells).rstrip())


def _total(shown: Sequence[str], widths: Mapping[str, int]) -> int:
    return sum(widths[name] for name in shown) + len(_GAP) * (len(shown) - 1)


def _room() -> int | None:
    """Columns of the screen; None where there is none, as in a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def _width(text: str) -> int:
    """Columns that a text takes on a screen."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

"""The files that the dashboard is made of: the page, its style, its script, and the runbooks it links to."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

from prefect_intelligent.analytics.alerts import RUNBOOKS

_STATIC: Final = Path(__file__).parent / "static"
_SCRIPTS: Final = ("dom.js", "pictures.js", "panels.js", "app.js")
_PACKAGE: Final = Path(__file__).parents[1]


def html() -> str:
    """The page without data."""
    return (_STATIC / "index.html").read_text("utf-8")


def style() -> str:
    """Its style sheet."""
    return (_STATIC / "app.css").read_text("utf-8")


def script() -> str:
    """Its script: small files that share one scope, so that nothing has to be built and a report can hold it."""
    return "\n".join((_STATIC / name).read_text("utf-8") for name in _SCRIPTS)


def runbook(rule: str) -> str | None:
    """The page that says what to do about an alert; None if there is no such rule."""
    if rule not in RUNBOOKS:
        return None
    shipped = _PACKAGE / "runbooks" / f"{rule}.md"  # in the wheel; a checkout has them where they are written
    file = shipped if shipped.is_file() else _PACKAGE.parent / RUNBOOKS[rule]
    text = file.read_text("utf-8") if file.is_file() else f"See {RUNBOOKS[rule]} of the project."
    head = f'<meta charset="utf-8"><title>{escape(rule)}</title><link rel="icon" href="data:,">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += '<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/app.css">'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body><pre class="page">{escape(text)}</pre></body></html>'
    )

"""The files of the dashboard: its page, style and script, and the runbooks that it links to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prefect_intelligent.analytics.alerts import RUNBOOKS
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.domain.spans import describe_span

_FOLDER: Final = Path(__file__).parent
_SCRIPTS: Final = ("dom.js", "pictures.js", "panels.js", "app.js")
_PACKAGE: Final = Path(__file__).parents[1]
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}


def live_page() -> str:
    """The page without a state; it loads its style, its script and its state from the server."""
    return _TEMPLATES.get_template("index.html").render(embedded=None)


def static_page(state: Mapping[str, Any]) -> str:
    """The page with style, script and state in it.

    The state is escaped JSON in a data element, and only our own script and style may run: their digests are in the
    page's Content-Security-Policy.
    """
    embedded = {
        "style": style(),
        "style_digest": _digest(style()),
        "script": script(),
        "script_digest": _digest(script()),
        "state": state,
    }
    return _TEMPLATES.get_template("index.html").render(embedded=embedded)


def style() -> str:
    """The style sheet."""
    return (_FOLDER / "static" / "app.css").read_text("utf-8")


def script() -> str:
    """The script: a few files concatenated into one module, so that nothing has to be built."""
    return "\n".join((_FOLDER / "static" / name).read_text("utf-8") for name in _SCRIPTS)


def runbook(rule: str) -> str | None:
    """The page of a runbook, which says what to do about an alert; None if there is no such rule."""
    if rule not in RUNBOOKS:
        return None
    shipped = _PACKAGE / "runbooks" / f"{rule}.md"  # in the wheel; a checkout has them in docs
    file = shipped if shipped.is_file() else _PACKAGE.parent / RUNBOOKS[rule]
    text = file.read_text("utf-8") if file.is_file() else f"See {RUNBOOKS[rule]} of the project."
    return _TEMPLATES.get_template("runbook.html").render(rule=rule, text=text)


def detail_page(template: str, values: Mapping[str, Any]) -> str:
    """A page without a script: "deployment", "dataset" or "pools", with what `details` says of it."""
    return _TEMPLATES.get_template(f"{template}.html").render(**values)


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else describe_span(seconds)


_TEMPLATES.filters |= {
    "span": _span,
    "share": lambda value: "–" if value is None else f"{value:.1%}",
    "usd": lambda value: "–" if value is None else f"${value:,.2f}",
    "instant": lambda at_s: "–" if at_s is None else f"{utc(at_s):%Y-%m-%d %H:%M}Z",
}


def _digest(text: str) -> str:
    """The source expression of an inline script or style in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

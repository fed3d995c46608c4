"""The dashboard's page with its state inside: one file that needs no server, for mail and archives."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_intelligent.dashboard import assets
from prefect_intelligent.errors import InvalidInputError


def render_page(state: Mapping[str, Any]) -> str:
    """The page as text. Whatever the state holds, it stays data: it cannot end its element and no script of it runs."""
    script, style = assets.script(), assets.style()
    data = json.dumps(state, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = assets.html().replace(
        '<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
    )
    html = html.replace('<link rel="stylesheet" href="/app.css">', f"<style>{style}</style>")
    html = html.replace('<script type="module" src="/app.js"></script>\n', "")
    inside = f'<script type="application/json" id="state">{data}</script>\n<script type="module">{script}</script>'
    return html.replace("</body>", f"{inside}\n</body>")


def write_page(path: Path, state: Mapping[str, Any]) -> None:
    """Write the page.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    try:
        path.write_text(render_page(state), "utf-8")
    except OSError as error:
        raise InvalidInputError("file", str(path), f"cannot be written: {error.strerror}") from error


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

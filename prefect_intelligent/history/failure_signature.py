"""Signature of a failure: exception, message without its values, and place in the code."""

from __future__ import annotations

import re
from typing import Final

_EXCEPTION = re.compile(
    r"(?:^|[\s:])((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt|Timeout|Killed|Failure))\b:?\s?(.*)"
)
_FRAME = re.compile(r'^\s*File "([^"]+)", line \d+, in (\S+)', re.MULTILINE)
_LIBRARY: Final = ("site-packages", "dist-packages", "/prefect/", "/lib/python", "<frozen", "importlib")
_NORMAL: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<address>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE), "<url>"),
    (re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[\w.@-]+[/\\])+[\w.@-]*"), "<path>"),
    (re.compile(r"'([1-5]\d\d) [A-Z][A-Za-z -]{1,40}'"), r"status code \1"),  # what httpx says of an answer
    (re.compile(r"'[^']{1,200}'|\"[^\"]{1,200}\""), "<text>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{12,}\b", re.IGNORECASE), "<hash>"),
)
_NUMBER = re.compile(
    r"((?:exit(?:ed)?(?: with)?|status|return)[ _-]?(?:code|status)?\s?[:= (]\s?)?"
    r"([-+]?\b\d+(?:[.,]\d+)*(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)
"""A number, and what makes it an exit code or a status, of which there are few."""
_SEPARATOR = re.compile(r"[/\\]")
_MAX_LENGTH: Final = 160
UNKNOWN: Final = "no message"


def signature(text: str | None) -> str:
    """The signature of a state message, a log or a traceback: the same for all failures with the same cause.

    For example "ValueError: no row <n> (load in etl.py)": the last exception, its message with ids, numbers, paths,
    quotes, times and addresses replaced (exit codes and HTTP statuses are kept), and the last frame that is not a
    library's. Of text without an exception the
    last line is normalised in the same way. At most 160 characters and the place.
    """
    if not text or not text.strip():
        return UNKNOWN
    kind, message = "", ""
    for line in text.splitlines():
        if (found := _EXCEPTION.search(line)) is not None:
            kind, message = found[1].rsplit(".", 1)[-1], found[2]
    if not kind:
        message = text.strip().splitlines()[-1]
    for pattern, instead in _NORMAL:
        message = pattern.sub(instead, message)
    message = " ".join(_NUMBER.sub(_without_number, message).split())
    if len(message) > _MAX_LENGTH:
        message = message[: _MAX_LENGTH - 1] + "…"
    frames = [(file, name) for file, name in _FRAME.findall(text) if not any(part in file for part in _LIBRARY)]
    place = f" ({frames[-1][1]} in {_SEPARATOR.split(frames[-1][0])[-1]})" if frames else ""
    return (f"{kind}: {message}" if kind and message else kind or message) + place


def _without_number(found: re.Match[str]) -> str:
    before, number = found[1] or "", found[2]
    return before + (number if before and re.fullmatch(r"-?\d{1,3}", number) else "<n>")

"""What the cause of a failure means: by exit codes, types of exceptions and whole words."""

from __future__ import annotations

import re
from typing import Final

_TYPE: Final = re.compile(r"((?:\w+\.)*_?[A-Z]\w*):")
"""The type of an exception, at the begin of a signature."""

_NO_MEMORY: Final = re.compile(
    r"\b_?(?:Array|OutOf)?MemoryError\b|\bstd::bad_alloc\b|\bOOM(?:[- ]?kill(?:ed|er)?)?\b|\bout of memory\b"
    r"|\bcannot allocate memory\b|\bSIGKILL\b|\bsignal 9\b"
    r"|\b(?:exit(?:ed)?(?: with)?|status|return)[ _-]?(?:non-zero )?(?:exit )?(?:status )?(?:code|status)?\s*[:= (]\s*"
    r"(?:137|247|-9)(?!\w|\.\d)",
    re.IGNORECASE,
)
_OTHER_MEMORY: Final = re.compile(r"\b(?:CUDA|GPU|VRAM|HIP)\b", re.IGNORECASE)
"""More memory of the job is no remedy for these."""

_PASSING_TYPE: Final = re.compile(
    r"(?:Timeout|TimeoutError|TimeoutException|TimedOut"
    r"|Connection(?:Reset|Refused|Aborted|Closed)?Error|Connect(?:Error|ionClosed)|BrokenPipeError"
    r"|(?:Read|Write|Network|Protocol|RemoteProtocol|TransientServer)Error|RemoteDisconnected|IncompleteRead"
    r"|ServiceUnavailable(?:Error)?|TooManyRequests(?:Error)?|Throttl\w+|RateLimit\w*|TemporaryFailure)$"
)
_OWN_TYPE: Final = frozenset(
    [
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "FileNotFoundError",
        "ImportError",
        "IndexError",
        "KeyError",
        "ModuleNotFoundError",
        "NameError",
        "NotImplementedError",
        "PermissionError",
        "RecursionError",
        "SyntaxError",
        "TypeError",
        "UnicodeDecodeError",
        "UnicodeEncodeError",
        "ValidationError",
        "ValueError",
        "ZeroDivisionError",
    ]
)
"""Faults of code or data, whatever their message says."""

_PASSING: Final = re.compile(
    r"\btimed out\b|\btime-?out (?:expired|exceeded|reached|occurred|while|waiting|after|of)\b"
    r"|\b(?:read|connect(?:ion)?|request|gateway|statement|lock wait) time-?out\b"
    r"|\bconnection (?:was )?(?:reset|refused|aborted|closed|lost|broken)\b|\bbroken pipe\b"
    r"|\btemporar(?:y|ily) (?:unavailable|failure|error|overload\w*|in name resolution)\b"
    r"|\b(?:service|server|resource|database|host) (?:is )?(?:temporarily )?(?:unavailable|overloaded|too busy)\b"
    r"|\bserver error <text>|\bbad gateway\b|\btoo many requests\b|\brate limit(?:ed| exceeded| reached)\b"
    r"|\b(?:request|api|client) (?:was |is )?(?:rate[- ]limited|throttled)\b|\bdeadlock (?:detected|found)\b"
    r"|\bdatabase is locked\b|\btry again later\b"
    r"|\b(?:HTTP(?: error)?|status(?: code)?):? (?:408|425|429|50[234])\b",
    re.IGNORECASE,
)


def ran_out_of_memory(cause: str | None) -> bool:
    """Return whether a failure message reports too little memory of the job: an exit code, a type, or whole words."""
    if cause is None or _type(cause) in _OWN_TYPE:
        return False
    return _NO_MEMORY.search(cause) is not None and _OTHER_MEMORY.search(cause) is None


def is_transient(cause: str | None) -> bool:
    """Return whether a failure message reports what passes: a timeout, a reset, a busy service.

    A fault of code or data by its type, such as a `ValueError`, is none, whatever words its message has.
    """
    if cause is None:
        return False
    kind = _type(cause)
    if kind in _OWN_TYPE:
        return False
    return _PASSING_TYPE.search(kind) is not None or _PASSING.search(cause) is not None


def _type(cause: str) -> str:
    """The type of the exception without its module; empty if the message names none."""
    found = _TYPE.match(f"{cause.partition(' (')[0]}:")
    return "" if found is None else found[1].rpartition(".")[2]

"""How the functions of the twin are compiled: once, into a cache on disk, and never from a stale source.

Numba notices when the file of a cached function changes, but not when a function that it calls does, in another file.
The digest of all sources that are compiled is therefore kept beside the cache, which is dropped when it differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np

from prefect_intelligent.errors import IncompatibleLibraryError, MissingExtraError

try:
    import numba
    from numba.core import cpu
    from numba.extending import overload
except ImportError as error:  # pragma: no cover - the test environment has it
    raise MissingExtraError("the twin", "twin") from error

_OPTIONS: Final[Any] = {"error_model": "numpy", "_nrt": False}
"""Numba's private `_nrt` switches the counting of references off: these functions make no arrays, and counting those
they are given, with atomic instructions, took a third of their time."""

if not hasattr(getattr(cpu, "CPUTargetOptions", None), "_nrt"):
    raise IncompatibleLibraryError(
        f"Numba {numba.__version__}", "options of compiled functions", "none of the name _nrt", "_nrt", "twin"
    )

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE: Final = Path(__file__).parents[2]
SOURCES: Final = (
    *sorted(_PACKAGE.joinpath("twin").rglob("*.py")),
    *sorted(_PACKAGE.joinpath("policy").rglob("*.py")),
    _PACKAGE / "domain/objective.py",
)
"""Every file of which functions are compiled."""


def code(value: int) -> int:
    """A constant for compiled functions; Numba would compile a function anew for each plain literal passed to it."""
    return np.int64(value)  # type: ignore[return-value]


def compiled(function: F) -> F:
    """Compile; the function runs without the interpreter's lock."""
    dispatcher: Any = numba.njit(cache=True, nogil=True, **_OPTIONS)(function)
    _drop_stale(dispatcher)
    return cast("F", dispatcher)


def inlined(function: F) -> F:
    """Compile, and copy into every caller: for short functions that run at every event."""
    dispatcher: Any = numba.njit(cache=True, forceinline=True, **_OPTIONS)(function)
    _drop_stale(dispatcher)
    return cast("F", dispatcher)


def allow_calls(function: Callable[..., Any]) -> None:
    """Let compiled functions call a plain Python function, which itself stays interpreted."""
    overload(function, jit_options=_OPTIONS, strict=False)(lambda *_: function)


def _digest() -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest()


_DIGEST = _digest()
_checked: set[Path] = set()


def _drop_stale(dispatcher: Any) -> None:
    """Empty the cache folder of a compiled function if it was made from other sources; once per folder."""
    place = Path(dispatcher.stats.cache_path)
    if place in _checked:
        return
    _checked.add(place)
    stamp = place / "twin.sha256"
    try:
        if stamp.exists() and stamp.read_text() == _DIGEST:
            return
        for index in [*place.glob("*.nbi"), *place.glob("*.nbc")]:
            index.unlink(missing_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        stamp.write_text(_DIGEST)
    except OSError:  # a read-only place: numba then compiles in memory
        return

"""How the functions of the twin are compiled: once, into a cache on disk, and never from a stale source.

Numba notices when the file of a cached function changes, but not when a function it calls does, in another file. The
digest of all sources that end up in the kernel is therefore kept next to the cache, which is dropped when it differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np

from prefect_intelligent.errors import MissingExtraError

try:
    import numba
    from numba.extending import overload
except ImportError as error:  # pragma: no cover - the test environment has it
    raise MissingExtraError("the twin", "twin") from error

_OPTIONS: Final[Any] = {"error_model": "numpy", "_nrt": False}
"""Numba's private `_nrt` switches the counting of references off: these functions make no arrays, and counting those
they are given, with atomic instructions, took a third of their time."""

F = TypeVar("F", bound=Callable[..., Any])

_TWIN = Path(__file__).parents[1]
_SOURCES = (
    *sorted(_TWIN.rglob("*.py")),
    _TWIN.parent / "domain/objective.py",
    *sorted(_TWIN.parent.glob("policy/*.py")),
)


def code(value: int) -> int:
    """A constant for the kernel. Numba would compile a function anew for each plain literal that is passed to it."""
    return np.int64(value)  # type: ignore[return-value]


def compiled(function: F) -> F:
    """Compile; the function runs without the interpreter's lock."""
    kernel: Any = numba.njit(cache=True, nogil=True, **_OPTIONS)(function)
    _drop_stale(kernel)
    return cast("F", kernel)


def inlined(function: F) -> F:
    """Compile, and copy into every caller: for the few lines that every event passes."""
    kernel: Any = numba.njit(cache=True, forceinline=True, **_OPTIONS)(function)
    _drop_stale(kernel)
    return cast("F", kernel)


def usable(function: Callable[..., Any]) -> None:
    """Let compiled functions call a plain one of another package, which stays as it is for everybody else."""
    overload(function, jit_options=_OPTIONS, strict=False)(lambda *_: function)


def _digest() -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in _SOURCES)).hexdigest()


_DIGEST = _digest()
_checked: set[Path] = set()


def _drop_stale(kernel: Any) -> None:
    """Empty the cache directory of our kernels if it was made from other sources."""
    place = Path(kernel.stats.cache_path)
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

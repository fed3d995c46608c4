"""Small files that say "taken care of until ...", so that a hook can skip work without importing or asking anything.

Standard library only. A controller lights the beacon of its pool at every turn; a hook that sees it lit knows that
nobody needs it to decide. A beacon that cannot be read is not lit: then the hook does the work, as it must.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from prefect_intelligent.local.spool import default_folder

_LONGEST_S = 3600.0  # a clock that was set back must not keep a beacon lit for ever


def relay_key(api_url: str) -> str:
    """The beacon that is lit while a controller on this machine delivers the letters for that server."""
    return f"announcer:{api_url.rstrip('/')}"


def steering_key(api_url: str, pool: str) -> str:
    """The beacon that is lit while no hook on this machine needs to decide for that pool."""
    return f"steering:{api_url.rstrip('/')}:{pool}"


def mark_alive(name: str, seconds: float, folder: Path | None = None) -> None:
    """Say that `name` is taken care of for so many seconds from now (an hour at most); never raises."""
    path = _path(name, folder)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(f"{time.time() + min(seconds, _LONGEST_S)}")
        draft.replace(path)


def is_alive(name: str, folder: Path | None = None) -> bool:
    """Whether somebody takes care of `name` now."""
    try:
        until_s = float(_path(name, folder).read_text())
    except (OSError, ValueError):
        return False
    now_s = time.time()
    return now_s < until_s <= now_s + _LONGEST_S


def clear(name: str, folder: Path | None = None) -> None:
    """Nobody takes care of `name` any more; never raises."""
    with contextlib.suppress(OSError):
        _path(name, folder).unlink(missing_ok=True)


def _path(name: str, folder: Path | None) -> Path:
    base = default_folder().parent if folder is None else folder
    return base / "beacons" / hashlib.sha256(name.encode()).hexdigest()[:24]

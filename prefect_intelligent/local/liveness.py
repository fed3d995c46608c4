"""Liveness keys: small files that say until when another process does a task, so that a hook can skip it.

Standard library only. A controller marks the key of its pool alive at every turn; a hook that finds it alive need not
decide. A key that cannot be read counts as not alive: then the hook does the work itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from prefect_intelligent.local.spool import default_folder

_LONGEST_S = 3600.0  # a clock that was set back must not keep a key alive for ever


def relay_key(api_url: str) -> str:
    """The key that is alive while a relay on this machine delivers the pending events for that server."""
    return f"announcer:{server_of(api_url)}"


def steering_key(api_url: str, pool: str) -> str:
    """The key that is alive while no hook on this machine needs to decide for that pool."""
    return f"steering:{server_of(api_url)}:{pool}"


def server_of(api_url: str) -> str:
    """The address of a server without user and password: whoever asks, it is the same server."""
    scheme, there, rest = api_url.rstrip("/").rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme + there + host.rpartition("@")[2] + slash + path


def mark_alive(key: str, seconds: float, folder: Path | None = None) -> None:
    """Mark the key alive for so many seconds from now (an hour at most); never raises."""
    path = _path(key, folder)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(f"{time.time() + min(seconds, _LONGEST_S)}")
        draft.replace(path)


def is_alive(key: str, folder: Path | None = None) -> bool:
    """Whether the key is alive now."""
    try:
        until_s = float(_path(key, folder).read_text())
    except (OSError, ValueError):
        return False
    now_s = time.time()
    return now_s < until_s <= now_s + _LONGEST_S


def clear(key: str, folder: Path | None = None) -> None:
    """Mark the key as not alive any more; never raises."""
    with contextlib.suppress(OSError):
        _path(key, folder).unlink(missing_ok=True)


def _path(key: str, folder: Path | None) -> Path:
    base = default_folder().parent if folder is None else folder
    return base / "beacons" / hashlib.sha256(key.encode()).hexdigest()[:24]

"""Recordings: a pool's settings and its past runs in one JSON file that can be replayed on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.runs_frame import NUMBERS, TIMES, as_runs

FORMAT: Final = "prefect-intelligent-recording"
VERSION: Final = 1
_KEPT: Final = ("deployment", "queue", "state", *TIMES, *NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A pool and its past runs.

    Attributes:
        pool: Settings of the pool.
        queues: Settings of its queues.
        prices: What its slots cost.
        poll_s: Seconds between two polls of its workers.
        startup_s: Median seconds from a slot to running.
        runs: Table of `history.runs_frame`.
    """

    pool: PoolSetting
    queues: tuple[QueueSetting, ...]
    prices: Prices
    poll_s: float
    startup_s: float
    runs: pd.DataFrame


def write_recording(path: Path, recording: Recording) -> None:
    """Write the file; readers see all of it or nothing."""
    runs = recording.runs[[name for name in _KEPT if name in recording.runs.columns]]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "pool": asdict(recording.pool),
        "queues": [asdict(queue) for queue in recording.queues],
        "prices": asdict(recording.prices),
        "poll_s": recording.poll_s,
        "startup_s": recording.startup_s,
        "runs": json.loads(runs.to_json(orient="records", double_precision=3)),
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read_recording(path: Path) -> Recording:
    """Read the file.

    Raises:
        InvalidInputError: There is none, it is not a recording, or a value in it cannot be used.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInputError("recording", str(path), "there is no such file") from error
    except OSError as error:
        raise InvalidInputError("recording", str(path), f"cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError("recording", str(path), f"is not JSON ({error})") from error
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InvalidInputError(
            "recording", str(path), f"its 'format' must be {FORMAT!r}; write one with `replay --save`"
        )
    if document.get("version") != VERSION:
        raise InvalidInputError("recording", str(path), f"its version is {document.get('version')}, this is {VERSION}")
    try:
        return _parsed(document)
    except InvalidInputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("recording", str(path), f"a part is missing or of the wrong type ({error})") from error


def _parsed(document: Mapping[str, Any]) -> Recording:
    if not document["runs"]:
        raise InvalidInputError("recording", "no runs", "there is nothing to replay")
    return Recording(
        pool=PoolSetting(**document["pool"]),
        queues=tuple(QueueSetting(**queue) for queue in document["queues"]),
        prices=Prices(**document["prices"]),
        poll_s=float(document["poll_s"]),
        startup_s=float(document["startup_s"]),
        runs=as_runs(pd.DataFrame(document["runs"])),
    )

"""Outlooks for whoever decides often: read from the history of runs now and then, never in the middle of a decision."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.forecasting.outlook import Outlook, make_outlook
from prefect_intelligent.forecasting.point_in_time_features import NOTHING, Context

if TYPE_CHECKING:
    import pandas as pd

SPAN_S: Final = 14 * 86400.0
_MOST_RUNS: Final = 20_000


class Outlooks(Protocol):
    """What a snapshot asks for each deployment."""

    @property
    def generation(self) -> int:
        """Grows with every change of anything said here."""
        ...

    def of(self, deployment: str) -> Outlook | None:
        """What is expected of the next run; None if too little is known."""
        ...

    def refresh(self) -> None:
        """Look again if what was read has grown old; returns at once."""
        ...


class HistoryOutlooks:
    """Implements `Outlooks` on the history of runs.

    The first refresh reads at once, later ones in a thread; until that is done, and if it fails, the old table stays.

    Args:
        read: Gives the pool's runs since an instant, as `SqlRuns.run_frame` does.
        forecaster: Folder of the trained forecaster; without one in it, shares and quantiles of the past serve.
        start_up_s: Seconds between taking a slot and starting to work.
        ttl_s: How long a table is good for.
        now: Gives the present instant, Unix seconds.
        around: Gives what is known of the world around the runs.
    """

    def __init__(
        self,
        read: Callable[[float], pd.DataFrame],
        forecaster: Path,
        *,
        start_up_s: float = 3.0,
        ttl_s: float = 300.0,
        now: Callable[[], float] = time.time,
        around: Callable[[], Context] = lambda: NOTHING,
    ) -> None:
        self._read, self._folder, self._start_up_s = read, forecaster, start_up_s
        self._ttl_s, self._now, self._around = ttl_s, now, around
        self._table: dict[str, Outlook] = {}
        self._read_at = -float("inf")  # monotonic
        self._reader: threading.Thread | None = None
        self._generation = 0

    @property
    def generation(self) -> int:
        """Grows with every change of the table."""
        return self._generation

    def of(self, deployment: str) -> Outlook | None:
        """What is expected of the deployment's next run."""
        return self._table.get(deployment)

    def refresh(self) -> None:
        """Read again if the table has grown old."""
        if time.monotonic() - self._read_at < self._ttl_s or (self._reader is not None and self._reader.is_alive()):
            return
        first = self._read_at == -float("inf")
        self._read_at = time.monotonic()
        if first:
            self._look()
            return
        self._reader = threading.Thread(target=self._look, name="outlooks", daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Until a reading that is under way has ended."""
        if self._reader is not None:
            self._reader.join()

    def _look(self) -> None:
        try:
            now_s = self._now()
            runs = self._read(now_s - SPAN_S).tail(_MOST_RUNS).reset_index(drop=True)
            forecaster, around = None, NOTHING
            if (self._folder / "forecaster.json").exists():
                from prefect_intelligent.forecasting.forecaster import Forecaster

                forecaster, around = Forecaster.load(self._folder), self._around()
            table = make_outlook(runs, now_s, forecaster, start_up_s=self._start_up_s, around=around)
        except PrefectIntelligentError as error:  # what was known stays; deployments fall back on Prefect's last runs
            logging.getLogger(__name__).warning("no forecasts from the history: %s", error)
            return
        if table != self._table:
            self._table = table
            self._generation += 1

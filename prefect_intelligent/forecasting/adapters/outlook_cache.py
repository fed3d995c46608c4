"""Outlooks cached from the history of runs, refreshed in a thread so that no decision waits for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.forecasting.outlook import Outlook, make_outlook
from prefect_intelligent.forecasting.point_in_time_features import NO_CONTEXT, Context

if TYPE_CHECKING:
    import pandas as pd

SPAN_S: Final = 14 * 86400.0
_MAX_RUNS: Final = 20_000


class HistoryOutlooks:
    """`OutlookSource` on the history of runs.

    The first refresh reads at once, later ones in a thread; until a read succeeds the previous table is used.

    Args:
        read: Gives the pool's runs since an instant, as `SqlRuns.run_frame` does.
        forecaster: Folder of the trained forecaster; if it has none, the baselines of `make_outlook` are used.
        start_up_s: Seconds between taking a slot and starting to work.
        ttl_s: Seconds after which a table is read again.
        now: Gives the present, Unix seconds.
        context: Gives upstream deployments, and the quality checks of their outputs.
    """

    def __init__(
        self,
        read: Callable[[float], pd.DataFrame],
        forecaster: Path,
        *,
        start_up_s: float = 3.0,
        ttl_s: float = 300.0,
        now: Callable[[], float] = time.time,
        context: Callable[[], Context] = lambda: NO_CONTEXT,
    ) -> None:
        self._read, self._folder, self._start_up_s = read, forecaster, start_up_s
        self._ttl_s, self._now, self._context = ttl_s, now, context
        self._table: dict[str, Outlook] = {}
        self._read_at = -float("inf")  # monotonic
        self._reader: threading.Thread | None = None
        self._generation = 0

    @property
    def generation(self) -> int:
        """Increases with every change of the table."""
        return self._generation

    def of(self, deployment: str) -> Outlook | None:
        """What is expected of the deployment's next run."""
        return self._table.get(deployment)

    def refresh(self) -> None:
        """Read again if the table is older than `ttl_s`; returns at once, except for the first time."""
        if time.monotonic() - self._read_at < self._ttl_s or (self._reader is not None and self._reader.is_alive()):
            return
        first = self._read_at == -float("inf")
        self._read_at = time.monotonic()
        if first:
            self._update()
            return
        self._reader = threading.Thread(target=self._update, name="outlooks", daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Wait for the end of a refresh in the thread."""
        if self._reader is not None:
            self._reader.join()

    def _update(self) -> None:
        try:
            now_s = self._now()
            runs = self._read(now_s - SPAN_S).tail(_MAX_RUNS).reset_index(drop=True)
            forecaster, context = None, NO_CONTEXT
            if (self._folder / "forecaster.json").exists():
                from prefect_intelligent.forecasting.forecaster import Forecaster

                forecaster, context = Forecaster.load(self._folder), self._context()
            table = make_outlook(runs, now_s, forecaster, start_up_s=self._start_up_s, context=context)
        except PrefectIntelligentError as error:  # the previous table stays; without one Prefect's last runs are used
            logging.getLogger(__name__).warning("no forecasts from the history: %s", error)
            return
        if table != self._table:
            self._table = table
            self._generation += 1

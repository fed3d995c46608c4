"""A quick stand-in for a worker and its flows: claims runs over the API, ends them, and announces their outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from prefect_intelligent.pipelines.adapters.dataset_events import emit_dataset_events
from prefect_intelligent.prefect_client.api import PrefectApi
from tests.real_prefect import Api


class QuickWorker:
    """Runs everything that is due in a pool, one after the other, in a thread.

    Args:
        api_url: The server.
        pool: The pool.
        outputs: Datasets and batch parameter by deployment id.
        run: Called with the flow run instead of a flow; raising fails the run.
    """

    def __init__(
        self,
        api_url: str,
        pool: str,
        outputs: Mapping[str, tuple[tuple[str, ...], str | None]],
        run: Callable[[Mapping[str, Any]], None] = lambda run: None,
    ) -> None:
        self.api, self.pool, self.outputs, self.run = Api(api_url), pool, outputs, run
        self.prefect = PrefectApi(api_url, timeout_s=30)
        self.ran: list[tuple[str, str]] = []  # deployment id and flow run id in the order in which they ended
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> QuickWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=120)

    def _work(self) -> None:
        while not self._stop.is_set():
            for run_id in self.api.polled(self.pool):
                self._execute(run_id)
            time.sleep(0.4)

    def _execute(self, run_id: str) -> None:
        self.api.set_state(run_id, "PENDING")
        self.api.set_state(run_id, "RUNNING")
        run = self.api.read_run(run_id)
        ok = True
        try:
            self.run(run)
        except RuntimeError:
            ok = False
        self.api.set_state(run_id, "COMPLETED" if ok else "FAILED")
        datasets, parameter = self.outputs.get(run["deployment_id"], ((), None))
        emit_dataset_events(self.prefect, run, datasets, parameter, fresh=ok)
        self.ran.append((run["deployment_id"], run_id))

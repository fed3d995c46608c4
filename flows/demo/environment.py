"""The folders of the demo, and an environment that is isolated from the user's Prefect."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "3600",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_WORKER_PREFETCH_SECONDS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "SODA_CORE_TELEMETRY_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment of both arms. The worker polls every second instead of every ten, so that a morning fits into a minute.
Runs are not renamed to "Late" after 15 s: that changes no order, but locks SQLite more often where more runs are late,
which would slow down the default arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Folders of one demo, all below its output folder."""

    output: Path

    @property
    def home(self) -> Path:
        """PREFECT_HOME of the demo: database, profiles, storage."""
        return self.output / "prefect-home"

    @property
    def logs(self) -> Path:
        """Logs of the child processes."""
        return self.output / "logs"

    @property
    def intelligent(self) -> Path:
        """Where prefect_intelligent keeps its history."""
        return self.home / "prefect-intelligent"

    @property
    def processes(self) -> Path:
        """List of the processes that `demo-up` has left running."""
        return self.output / "processes.json"

    def lake(self, name: str) -> Path:
        """Datasets of one arm, or ("seed") the initial state of both."""
        return self.output / f"lake-{name}"

    def clear(self) -> None:
        """Create the output folder and remove the files of an earlier demo."""
        self.output.mkdir(parents=True, exist_ok=True)
        for path in (self.home, self.logs, *self.output.glob("lake-*")):
            shutil.rmtree(path, ignore_errors=True)
        for name in ("result.json", "demo.html"):
            (self.output / name).unlink(missing_ok=True)
        self.home.mkdir()


def prepare_environment(folders: Folders, api_url: str) -> None:
    """Point this process and its children to the demo's own server; call it before Prefect is imported."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= QUIET | {
        "PREFECT_HOME": str(folders.home),
        "PREFECT_API_URL": api_url,
        "PREFECT_INTELLIGENT_DATA_DIR": str(folders.intelligent),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }


def child_environment(**more: str) -> Mapping[str, str]:
    """Environment of a child process."""
    return {**os.environ, **more}

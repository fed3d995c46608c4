"""The Prefect server of the demo, on SQLite in its folder."""

from __future__ import annotations

import httpx

from flows.demo.environment import ROOT, Folders, child_environment
from flows.demo.processes import Child

TIMEOUT_S = 300.0


def api_url_of(port: int) -> str:
    """Address of the API of a server on that port."""
    return f"http://127.0.0.1:{port}/api"


def start_server(folders: Folders, port: int, *, outlives_us: bool = False) -> Child:
    """Start `prefect server start` on that port; without waiting until it is ready."""
    return Child(
        "Prefect server",
        ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        child_environment(PREFECT_SERVER_LOGGING_LEVEL="WARNING"),
        folders.logs / "server.log",
        ROOT,
        outlives_us=outlives_us,
    )


def answers(url: str) -> bool:
    """Whether a GET of that address succeeds."""
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for_server(server: Child, port: int) -> None:
    """Wait until the server answers.

    Raises:
        DemoError: It ended or did not answer in time.
    """
    server.wait_until(lambda: answers(f"{api_url_of(port)}/health"), TIMEOUT_S)

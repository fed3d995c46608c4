"""A dashboard on a free port, and a headless Chromium that opens it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from prefect_intelligent.dashboard.app import DashboardConfig, create_app
from prefect_intelligent.dashboard.broadcast import State, StateBroadcaster

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of a Chromium on this machine."""
    return next((path for name in CHROMIUM if (path := shutil.which(name)) is not None), None)


@contextmanager
def serve(
    build: Callable[[], State], *, interval_s: float = 3600.0, **config: Any
) -> Iterator[tuple[str, StateBroadcaster]]:
    """A running dashboard: its URL, and the hub to publish to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hub = StateBroadcaster()
    app = create_app(DashboardConfig(pool="warehouse", build=build, interval_s=interval_s, **config), hub)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not (server.started and hub.state):
        if time.monotonic() > deadline:
            raise TimeoutError("the dashboard has not started within 30 s")
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}", hub
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


@contextmanager
def page(executable: str, **context: Any) -> Iterator[Any]:
    """A page of a fresh headless browser; `page.problems` collects errors of scripts and the console."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        found = browser.new_context(**context).new_page()
        found.problems = []
        found.on("pageerror", lambda error: found.problems.append(str(error)))
        found.on("console", lambda m: found.problems.append(m.text) if m.type == "error" else None)
        try:
            yield found
        finally:
            browser.close()

"""Flows that run what an operator would otherwise run by hand; `prefect-intelligent init` writes deployments of them.

Each runs a command of this package in a process of its own, with the environment and the working folder of the flow
run, and ends as that does: what the command finds is in the run's log, and its exit code decides the state.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from prefect import flow, get_run_logger

_PATIENCE_S = 60.0


@flow(name="prefect-intelligent-controller", log_prints=True)
def controller(pools: list[str] | None = None, tag: str | None = None, mode: str | None = None) -> None:
    """Steer work pools until the run is cancelled; another run that leads makes this one stand by.

    Args:
        pools: Names; all pools of the server if None.
        tag: With `pools` left out, only pools with a deployment that has this tag.
        mode: shadow, advise or auto; None as the settings say.
    """
    words = [word for pool in pools or () for word in ("--pool", pool)] or ["--all-pools"]
    words += ["--tag", tag] if tag and not pools else []
    _command("control", "run", *words, *(["--mode", mode] if mode else []))


@flow(name="prefect-intelligent-sync")
def sync_history() -> None:
    """Copy what is new on the server into the history."""
    _command("sync")


@flow(name="prefect-intelligent-report")
def report(pool: str, last: str = "7d") -> None:
    """Write the report of a pool into the log of the run.

    Args:
        pool: Name of the work pool.
        last: How far it looks back.
    """
    _command("report", "--pool", pool, "--last", last)


@flow(name="prefect-intelligent-ship")
def ship(tracking_uri: str | None = None) -> None:
    """Send what is in the spool of this machine to MLflow, once.

    Args:
        tracking_uri: MLflow; None as the settings and the environment say.
    """
    _command("ship", "--once", *(["--tracking-uri", tracking_uri] if tracking_uri else []))


def _command(*words: str) -> None:
    """Run a command and log what it prints.

    Raises:
        RuntimeError: It did not end well.
    """
    logger = get_run_logger()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect_intelligent", *words],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        for line in process.stdout or ():
            logger.info("%s", line.rstrip("\n"))
        code = process.wait()
    except BaseException:  # the run is cancelled: the command gives its lease up and ends
        _end(process)
        raise
    if code:
        raise RuntimeError(f"`prefect-intelligent {' '.join(words)}` has ended with exit code {code}")


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    reader = threading.Thread(target=lambda: _read_away(process), daemon=True)
    reader.start()  # a full pipe would keep it from ending
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_away(process: subprocess.Popen[str]) -> Sequence[str]:
    return list(process.stdout or ())

"""`make demo-up`: the server, worker, controller and MLflow of the demo, left running."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict

from prefect.client.orchestration import get_client
from rich.console import Console

from flows.demo.arm import start_controller, start_worker
from flows.demo.environment import ROOT, Folders, child_environment
from flows.demo.pool import SLOTS, DemoPool
from flows.demo.processes import Child, free_port
from flows.demo.running_processes import describe_process
from flows.demo.seed_lake import seed_lake
from flows.demo.server import answers, api_url_of, start_server, wait_for_server
from flows.demo.workload import Size, plan_morning

CYCLE_S = 4.0
"""Assumed seconds from one start to the next in a slot; not measured, because nothing is compared."""


def bring_up(folders: Folders, port: int, *, policy: str, seed: int, console: Console) -> None:
    """Start server, worker, controller and MLflow, submit one morning, print the addresses and leave.

    Raises:
        DemoError: One of them did not start; those that did have been stopped.
    """
    mlflow_port = free_port()
    with ExitStack() as stack:
        console.print("Starting a Prefect server, MLflow, a worker and a controller that ships its records ...")
        server = start_server(folders, port, outlives_us=True)
        stack.callback(server.stop)
        mlflow = start_mlflow(folders, mlflow_port)
        stack.callback(mlflow.stop)
        seed_lake(folders.lake("seed"))
        wait_for_server(server, port)
        with get_client(sync_client=True) as client:
            pool = DemoPool(client)
            pool.build()
            worker = start_worker(stack, pool, folders, outlives_us=True)
            controller = start_controller(
                stack,
                folders,
                name="up",
                policy=policy,
                mode="auto",
                ship=f"http://127.0.0.1:{mlflow_port}",
                outlives_us=True,
            )
            mlflow.wait_until(lambda: answers(f"http://127.0.0.1:{mlflow_port}/health"), 120.0)
            launches = plan_morning(Size.fit(CYCLE_S, SLOTS), seed)
            pool.submit(launches, time.time() + 5.0, "morning", folders.lake("seed"))
        children = (server, mlflow, worker, controller)
        folders.processes.write_text(
            json.dumps([asdict(describe_process(child.name, child.pid)) for child in children], indent=1) + "\n"
        )
        stack.pop_all()
    console.print(
        f"Prefect:     {api_url_of(port).removesuffix('/api')}\n"
        f"MLflow:      http://127.0.0.1:{mlflow_port}\n"
        f"Logs:        {folders.logs}\n"
        f"Use it with: export PREFECT_HOME={folders.home} PREFECT_API_URL={api_url_of(port)}\n"
        f"             export PREFECT_INTELLIGENT_DATA_DIR={folders.intelligent}\n"
        f"For example: prefect-intelligent explain --pool flights\n"
        f"Stop it:     make demo-down",
        soft_wrap=True,
        highlight=False,
    )


def start_mlflow(folders: Folders, port: int) -> Child:
    """Start an MLflow server on SQLite, without waiting until it is ready."""
    store = folders.output / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}", "--artifacts-destination", str(store)]
    return Child("MLflow server", command, child_environment(), folders.logs / "mlflow.log", ROOT, outlives_us=True)

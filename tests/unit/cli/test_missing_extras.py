"""What needs an extra that is not installed says so on one line, with the line that installs it."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from prefect_intelligent.errors import EXTRA_OF, MissingExtraError, missing_extra

EXTRAS = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["optional-dependencies"]

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without(extra, code, folder):
    """Run code where no module of an extra can be found."""
    missing = {module for module, owner in EXTRA_OF.items() if owner == extra}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing) + code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PATH": "",
            "HOME": str(folder),
            "PREFECT_HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
    )
    return done.returncode, done.stderr.strip().splitlines()


def test_a_gate_without_its_extra_is_one_hint(tmp_path):
    code, lines = without("quality", "from prefect_intelligent import quality_gate", tmp_path)
    assert code == 1
    assert lines[-1].endswith("quality_gate needs the extra 'quality': pip install 'prefect-intelligent[quality]'")
    assert "duckdb" not in "".join(lines)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("quality", ("quality", "check", "contract.yml", "x.parquet")),
        ("quality", ("quality", "profile", "x.parquet")),
        ("twin", ("replay", "--recording", "r.json")),
        ("tracking", ("ship", "--once")),
    ],
)
def test_a_command_without_its_extra_is_one_line_and_exit_code_2(extra, words, tmp_path):
    (tmp_path / "contract.yml").write_text("dataset: a/b\nchecks: [{row_count: {}}]\n")
    (tmp_path / "r.json").write_text("{}")
    code, lines = without(extra, f"from prefect_intelligent.cli import main; sys.exit(main({words!r}))", tmp_path)
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(f"pip install 'prefect-intelligent[{extra}]'")


def test_every_module_is_of_a_distribution_of_its_extra():
    owners = packages_distributions()
    for module, extra in EXTRA_OF.items():
        names = {name.lower().replace("_", "-") for name in owners[module]}
        listed = {text.lower().split("[")[0].split(">")[0].split("=")[0].strip() for text in EXTRAS[extra]}
        assert names & listed, (module, extra)


def test_another_missing_module_is_no_matter_of_extras():
    assert missing_extra("x", ModuleNotFoundError("no", name="nonsense")) is None
    assert isinstance(missing_extra("x", ModuleNotFoundError("no", name="mlflow.tracking")), MissingExtraError)

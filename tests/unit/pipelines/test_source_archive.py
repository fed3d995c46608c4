"""Packing source: reproducible, without what git ignores, and honest about uncommitted changes."""

import re
import subprocess

import pytest

from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.pipelines.adapters.contract_columns import read_promises
from prefect_intelligent.pipelines.adapters.source_archive import pack, unpack
from prefect_intelligent.pipelines.deployments import ColumnSpec


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "a.py").write_text("x = 1\n")
    (folder / "run.sh").write_text("true\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"x")
    return folder


def test_the_same_files_give_the_same_archive_and_come_back(tree, tmp_path):
    one = pack(tree)
    (tree / "flows" / "a.py").touch()
    assert pack(tree).archive == one.archive
    assert (one.commit, one.changes) == (None, "")
    unpack(one.archive, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["a.py", "run.sh"]
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o111
    unpack(b"whatever", tmp_path / "out")  # it is there already
    with pytest.raises(StoreError, match="cannot be unpacked"):
        unpack(b"no archive", tmp_path / "broken")
    assert not (tmp_path / "broken").exists()


def test_uncommitted_changes_are_told_and_ignored_files_left_out(tree, tmp_path):
    (tree / ".gitignore").write_text("*.csv\n__pycache__\n")
    (tree / "big.csv").write_text("1,2\n")
    git(tree, "init")
    git(tree, "add", ".")
    git(tree, "commit", "-m", "one")
    clean = pack(tree)
    assert clean.changes == ""
    assert len(clean.commit) == 40
    unpack(clean.archive, tmp_path / "out")
    assert not (tmp_path / "out" / "big.csv").exists()
    (tree / "flows" / "a.py").write_text("x = 2\n")
    (tree / "new.py").write_text("")
    dirty = pack(tree)
    assert "new.py" in dirty.changes
    assert "-x = 1\n+x = 2" in dirty.changes
    assert dirty.archive != clean.archive


def test_a_folder_that_is_not_there_or_holds_data_is_refused(tree, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="is not a folder"):
        pack(tmp_path / "absent")
    monkeypatch.setattr("prefect_intelligent.pipelines.adapters.source_archive.MAX_BYTES", 3)
    with pytest.raises(InvalidInputError, match="keep data out of it"):
        pack(tree)


CONTRACT = """
dataset: lake/main/flights
columns:
  - name: delay
    data_type: INTEGER
    checks:
      - missing:
      - invalid:
          valid_min: -100
          valid_max: 2000
  - name: carrier
"""


def test_a_contract_promises_types_and_ranges():
    columns = {"delay": ColumnSpec(type="integer", minimum=-100, maximum=2000), "carrier": ColumnSpec()}
    assert read_promises(CONTRACT, "flights.yml", ["clean"]) == {"clean": columns}
    named = re.sub("dataset: .*", "dataset: warehouse/main/delays", CONTRACT)
    assert read_promises(named, "flights.yml", ["clean", "delays"]) == {"delays": columns}


@pytest.mark.parametrize("text", ["columns: 3", "[1", "a"])
def test_what_is_no_contract_is_refused_in_one_line(text):
    with pytest.raises(InvalidInputError) as caught:
        read_promises(text, "flights.yml", ["clean"])
    assert "\n" not in str(caught.value)

"""`control off` means that nobody of ours writes: no pass, no hook, no rule, no gate."""

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

CONTRACT = "dataset: ds/main/t\ncolumns:\n  - name: id\n    checks:\n      - missing:\n"


@pytest.fixture
def home(sqlite, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(CONTRACT)
    (tmp_path / "bad.csv").write_text('id\n1\n""\n')
    (tmp_path / "good.csv").write_text("id\n1\n2\n")
    return tmp_path


def check(data, owner):
    return main(["quality", "check", "c.yml", data, "--remedy", "--downstream", owner.name])


def test_nothing_is_written_until_it_is_on_again(sqlite, home, capsys):
    owner = Owner(sqlite, limit=2)
    assert main(["control", "off", "--pool", owner.pool]) == 0
    before = owner.stored()
    assert check("bad.csv", owner) == 1
    assert "NOT held" in capsys.readouterr().out
    assert owner.stored() == before
    assert main(["prevent", "--pool", owner.pool, "--write"]) == 0
    assert "switched off" in capsys.readouterr().err
    assert main(["control", "on", "--pool", owner.pool]) == 0
    assert check("bad.csv", owner) == 1
    assert not owner.starts()
    assert main(["control", "off", "--pool", owner.pool]) == 0
    held = owner.stored()
    assert check("good.csv", owner) == 0
    assert "nobody was released" in capsys.readouterr().out
    assert owner.stored() == held
    assert main(["control", "on", "--pool", owner.pool]) == 0
    assert check("good.csv", owner) == 0
    assert owner.values() == {**owner.values(), "limit": 2, "taken": 0}
    assert owner.starts()


def test_a_pass_mends_and_says_so_and_does_neither_while_it_is_off(sqlite, home, capsys):
    owner = Owner(sqlite)
    once = ["control", "run", "--pool", owner.pool, "--once", "--policy", "fifo", "--json"]
    PrefectDownstream().hold(f"ds {owner.name}", [owner.name])
    owner.deploy()
    assert main(["control", "off", "--pool", owner.pool]) == 0
    assert main(once) == 0
    assert owner.values()["limit"] is None
    assert main(["control", "on", "--pool", owner.pool]) == 0
    capsys.readouterr()
    assert main(once) == 0
    assert f"{owner.name}: was no longer held" in capsys.readouterr().out
    assert not owner.starts()
    PrefectDownstream().release(f"ds {owner.name}")

"""`prefect-intelligent config` and how commands fail."""

import json

import pytest

from prefect_intelligent.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    return tmp_path


def test_config_shows_value_and_origin_of_every_setting(folder, capsys, monkeypatch):
    (folder / "prefect-intelligent.toml").write_text("[pools.etl]\nslot_usd_per_hour = 0.25\n")
    monkeypatch.setenv("PREFECT_INTELLIGENT_MODE", "shadow")
    assert main(["config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["mode"] == {"value": "shadow", "origin": "PREFECT_INTELLIGENT_MODE"}
    assert shown["settings"]["pools.etl.slot_usd_per_hour"]["value"] == 0.25
    assert shown["settings"]["pools.etl.slot_usd_per_hour"]["origin"].endswith("prefect-intelligent.toml:2")
    assert shown["settings"]["interval_s"]["origin"] == "default"
    assert shown["paths"]["history"] == f"sqlite:///{folder}/home/prefect-intelligent/history.db"


def test_config_for_people_names_the_file(folder, capsys):
    (folder / "own.toml").write_text('mode = "advise"\n')
    assert main(["config", "--config", "own.toml"]) == 0
    out = capsys.readouterr().out
    assert "Settings (own.toml)" in out
    assert "advise" in out


def test_a_corrupt_settings_file_is_one_line_and_exit_code_2(folder, capsys):
    (folder / "prefect-intelligent.toml").write_text('pool = "etl"\nmode "auto"\n')
    assert main(["config"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: settings file: got ")
    assert "prefect-intelligent.toml:2" in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["prefect-intelligent.toml"]

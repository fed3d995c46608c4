"""Settings: which source wins, where a value came from, and what is said about a wrong one."""

from pathlib import Path
from typing import get_args

import pytest

from prefect_intelligent.domain import Prices, Resource
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.prevention.rules import RULES
from prefect_intelligent.settings import Settings, load_settings
from prefect_intelligent.settings.values import PreventionRuleName


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("PREFECT_INTELLIGENT_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str, name: str = "prefect-intelligent.toml") -> Path:
    (folder / name).write_text(text)
    return folder


def test_without_anything_all_is_default(tmp_path):
    loaded = load_settings(start=tmp_path)
    assert loaded.settings == Settings()
    assert loaded.origins == {}
    assert loaded.origin("mode") == "default"


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path, monkeypatch):
    written(tmp_path, 'mode = "advise"\ninterval_s = 30\nhold_s = 60\n')
    monkeypatch.setenv("PREFECT_INTELLIGENT_MODE", "shadow")
    monkeypatch.setenv("PREFECT_INTELLIGENT_INTERVAL_S", "40")
    loaded = load_settings({"mode": "auto", "interval_s": None}, start=tmp_path)
    settings = loaded.settings
    assert (settings.mode, settings.interval_s, settings.hold_s, settings.react) == ("auto", 40, 60, True)
    assert loaded.origin("mode") == "--mode"
    assert loaded.origin("interval_s") == "PREFECT_INTELLIGENT_INTERVAL_S"
    assert loaded.origin("hold_s") == f"{tmp_path}/prefect-intelligent.toml:3"
    assert loaded.origin("react") == "default"


def test_nested_values_of_several_sources_are_merged(tmp_path, monkeypatch):
    written(tmp_path, "[prices]\nslot_usd_per_hour = 0.4\nidle_fraction = 0.5\n")
    monkeypatch.setenv("PREFECT_INTELLIGENT_PRICES__IDLE_FRACTION", "0.25")
    loaded = load_settings(start=tmp_path)
    assert loaded.settings.prices_of("etl") == Prices(slot_usd_per_hour=0.4, idle_fraction=0.25)
    assert loaded.origin("prices.slot_usd_per_hour").endswith("toml:2")
    assert loaded.origin("prices.idle_fraction") == "PREFECT_INTELLIGENT_PRICES__IDLE_FRACTION"


def test_a_pool_has_its_own_prices_where_it_says_so(tmp_path):
    written(tmp_path, "[prices]\nmin_billing_s = 60\n[pools.etl]\nslot_usd_per_hour = 2\n[resources]\nwarehouse = 3\n")
    settings = load_settings(start=tmp_path).settings
    assert settings.prices_of("etl") == Prices(slot_usd_per_hour=2, min_billing_s=60, idle_fraction=0.0)
    assert settings.prices_of("ml") == Prices(min_billing_s=60, idle_fraction=0.0)
    assert settings.shared_resources == (Resource(name="warehouse", capacity=3),)


def test_the_file_is_found_from_a_folder_below_and_in_pyproject(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    written(tmp_path, '[tool.other]\nmode = 1\n\n[tool.prefect-intelligent]\nmode = "shadow"\n', "pyproject.toml")
    loaded = load_settings(start=below)
    assert loaded.settings.mode == "shadow"
    assert loaded.origin("mode") == f"{tmp_path}/pyproject.toml:5"


def test_a_pyproject_that_is_not_about_us_is_not_looked_at(tmp_path):
    written(tmp_path, "[[[ broken", "pyproject.toml")
    assert load_settings(start=tmp_path).file is None


def test_paths_follow_the_data_folder_and_it_follows_prefect_home(monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", "/srv/prefect")
    assert Settings().history == "sqlite:////srv/prefect/prefect-intelligent/history.db"
    settings = Settings(data_dir=Path("/data"), history_url="postgresql://db/pi")
    assert settings.history == "postgresql://db/pi"
    assert settings.spool_dir == Path("/data/spool")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode = auto\n", r"settings file: got '.*toml:1'; is not TOML"),
        ('pool = "etl"\n\nmode == "auto"\n', r"settings file: got '.*toml:3'; is not TOML"),
        ("\n\n[prices]\nslot_usd_per_hour = -1\n", r"prices\.slot_usd_per_hour \(.*toml:4\): got -1; input should be"),
        ('mode = "fast"\n', r"setting mode \(.*toml:1\): got 'fast'; .*'shadow', 'advise' or 'auto'"),
        ("[pools.etl]\nlateness_weight = nan\n", r"pools\.etl\.lateness_weight \(.*toml:2\): got nan; .*finite"),
        ("[resources]\nwarehouse = 0\n", r"resources\.warehouse \(.*toml:2\): got 0; .*greater than 0"),
        (
            "[pools.etl]\nleast_slots = 4\nmost_slots = 2\n",
            r"pools\.etl \(.*toml:\d\): .*most_slots \(2\) is below least",
        ),
        ("prices = { idle_fraction = 2 }\n", r"prices\.idle_fraction \(.*toml:1\): got 2; "),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_line(tmp_path, text, says):
    with pytest.raises(InvalidInputError, match=says) as caught:
        load_settings(start=written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("intervall_s = 3\n", r"\(.*toml:1\): got 'intervall_s'; did you mean 'interval_s'\?"),
        ("[prices]\nidle = 0.5\n", r"\(.*toml:2\): got 'prices.idle'; did you mean 'prices.idle_fraction'\?"),
        ("[pools.etl]\nlateness = 1\n", r"did you mean 'pools.etl.lateness_weight'\?"),
        ("[pools.etl.queues.own]\nmoist = 1\n", r"did you mean 'pools.etl.queues.own.most'\?"),
    ],
)
def test_an_unknown_setting_names_the_nearest(tmp_path, text, says):
    with pytest.raises(UnknownNameError, match=says):
        load_settings(start=written(tmp_path, text))


def test_the_settings_know_every_rule_of_prevention():
    assert get_args(PreventionRuleName) == tuple(RULES)


def test_an_unknown_variable_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_INTERVAL", "3")
    with pytest.raises(UnknownNameError, match="did you mean 'PREFECT_INTELLIGENT_INTERVAL_S'"):
        load_settings(start=tmp_path)


def test_a_wrong_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_INTERVAL_S", "soon")
    with pytest.raises(InvalidInputError, match=r"interval_s \(PREFECT_INTELLIGENT_INTERVAL_S\): got 'soon'"):
        load_settings(start=tmp_path)


def test_a_variable_that_should_be_json_and_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_POOLS", "{etl")
    with pytest.raises(InvalidInputError, match="expected JSON"):
        load_settings(start=tmp_path)


def test_a_file_that_is_asked_for_must_exist(tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="no such file"):
        load_settings(config=str(tmp_path / "none.toml"))
    monkeypatch.setenv("PREFECT_INTELLIGENT_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(InvalidInputError, match="no such file"):
        load_settings(start=tmp_path)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().mode = "shadow"


def test_every_setting_has_a_description():
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_the_guards_section_has_the_guards_fields_and_defaults():
    from prefect_intelligent.policy.guard_state import GuardSettings
    from prefect_intelligent.settings import GuardSection

    guard = GuardSettings()
    for name, value in GuardSection().model_dump().items():
        assert getattr(guard, name) == value, name

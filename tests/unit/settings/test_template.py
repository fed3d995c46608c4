"""The settings file that `init` writes says what is true."""

import re

import pytest

from prefect_intelligent.settings import PoolSettings, load_settings
from prefect_intelligent.settings.template import settings_template
from prefect_intelligent.settings.values import Settings

NAMES = ["etl", 'with "quotes" and \\', "数据 2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("pool", NAMES)
def test_it_sets_the_pool_and_nothing_else(tmp_path, pool):
    (tmp_path / "prefect-intelligent.toml").write_text(settings_template(pool))
    settings = load_settings().settings
    assert settings.pool == pool
    assert settings == Settings(pool=pool, pools={pool: PoolSettings()})


@pytest.mark.parametrize("pool", NAMES)
def test_the_defaults_that_it_shows_are_the_defaults(tmp_path, pool):
    shown = re.sub(r"^#: (?!.*\(none\)$)", "", settings_template(pool), flags=re.MULTILINE)
    assert shown.count("\ninterval_s = ") == 2  # of decisions and of the guard
    (tmp_path / "prefect-intelligent.toml").write_text(shown)
    loaded = load_settings()
    assert loaded.settings == Settings(pool=pool, pools={pool: PoolSettings()})
    assert len(loaded.origins) > 20


def test_every_setting_is_in_it():
    text = settings_template("etl")
    sections = {"pools", "prices", "guard", "prevention", "resources", "budgets_usd_per_day"}
    for name in Settings.model_fields.keys() - sections | PoolSettings.model_fields.keys() - {"queues"}:
        assert re.search(rf"^(#: )?{name} = ", text, re.MULTILINE), name

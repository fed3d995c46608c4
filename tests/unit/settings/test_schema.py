"""The JSON schema of the settings file says the same as the settings themselves."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from prefect_intelligent.cli import main
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import FILE_NAME, load_settings
from prefect_intelligent.settings.schema import settings_schema

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "run-the-controller.md"
(EXAMPLE,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def said(tmp_path):
    """What the schema and what the settings say of a text; None if it is fine."""

    def ask(text):
        errors = list(Draft202012Validator(settings_schema()).iter_errors(tomllib.loads(text)))
        (tmp_path / FILE_NAME).write_text(text)
        try:
            load_settings(start=tmp_path)
        except InvalidInputError as error:
            return [error.message for error in errors], str(error)
        return [error.message for error in errors], None

    return ask


def test_it_is_a_schema_and_is_printed(capsys, tmp_path, monkeypatch):
    Draft202012Validator.check_schema(settings_schema())
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE_NAME).write_text("not TOML")
    assert main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == settings_schema()


def test_every_setting_has_its_meaning_and_is_not_null():
    schema = settings_schema()
    tables = schema["$defs"]
    settings = {
        (title, name): found if "description" in found else tables[found["$ref"].rpartition("/")[2]]
        for title, table in {"": schema, **tables}.items()
        for name, found in table["properties"].items()
    }
    assert len(settings) > 40
    assert [name for name, found in settings.items() if not found["description"]] == []
    assert "null" not in json.dumps(schema)


@pytest.mark.parametrize(
    "text",
    [
        "#:schema ./settings.schema.json\n" + EXAMPLE,
        "",
        'policy = "champion"\npolicies = "mlflow:"\nmode = "shadow"\nreact = false\ndata_dir = "~/kept"\n',
        "[pools.etl.queues.report]\nleast = 2\nmost = 8\n[prevention.overload]\nmode = 'auto'\n",
        "[budgets_usd_per_day]\n'flow/deployment' = 3\n",
    ],
)
def test_what_the_documentation_shows_is_accepted(said, text):
    assert said(text) == ([], None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (EXAMPLE.replace("idle_fraction", "idle_fration"), "'idle_fration' was unexpected"),
        ("intervall_s = 3\n", "'intervall_s' was unexpected"),
        ("[pools.etl]\nmost_slot = 3\n", "'most_slot' was unexpected"),
        ('mode = "fast"\n', "'fast' is not one of"),
        ("interval_s = 0\n", "0 is less than the minimum of 1"),
        ("[resources]\nwarehouse = 0\n", "0 is less than or equal to the minimum of 0"),
        ('pool = ""\n', "'' should be non-empty"),
        ('[prices]\nslot_usd_per_hour = "dear"\n', "'dear' is not of type 'number'"),
    ],
)
def test_what_the_settings_refuse_the_schema_refuses(said, text, why):
    by_schema, by_settings = said(text)
    assert why in by_schema[0]
    assert by_settings is not None

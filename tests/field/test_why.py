"""Every reason for which a run does not start, alone and in pairs, on a real server: what `why` says of it."""

import json

import pytest

from prefect_intelligent import cli
from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocking import explain_why
from tests.field.situations import SITUATIONS
from tests.field.stage import Stage
from tests.field.verdicts import faults

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_why_names_every_reason_and_its_advice_starts_the_run(situation, sqlite, prefect_server):
    assert faults(situation, prefect_server) == []


def test_there_are_enough_of_them():
    assert len(SITUATIONS) >= 40
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS)


def test_the_command_says_it_in_words_and_as_json(sqlite, prefect_server, capsys):
    stage = Stage(prefect_server)
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"is_paused": True})
    run = stage.due()
    assert cli.main(["why", run]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f"of {stage.owner.name}:")
    assert said[1:] == [
        f"  work pool {stage.pool} is paused",
        f"do: prefect work-pool resume {stage.pool}",
        "otherwise it does not start",
    ]
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"is_paused": False})
    assert cli.main(["why", stage.owner.name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["pool"], found["never"]) == (run, stage.pool, False)
    assert cli.main(["why", stage.api.read_run(run)["name"]]) == 0
    assert cli.main(["why", "no-such-thing/d"]) == 2


def test_when_it_starts_otherwise_comes_from_the_twin(sqlite, prefect_server):
    stage = Stage(prefect_server)
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 1})
    stage.begin(stage.other)
    run = stage.due()
    verdict = explain_why(Settings(), run)
    assert verdict.start_s is not None
    assert verdict.otherwise.startswith("otherwise it starts at about")


def test_a_name_that_does_not_exist_is_loud(sqlite):
    with pytest.raises(UnknownNameError):
        explain_why(Settings(), "nothing-of-this-name")

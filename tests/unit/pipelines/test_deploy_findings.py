"""What `deploy` refuses: conflicts that a version would bring."""

import pytest

from prefect_intelligent.domain import Terms
from prefect_intelligent.pipelines.version import DeploymentVersion, SourceCode
from prefect_intelligent.wiring.pipeline_versions import new_findings
from tests.pipeline_fakes import SCHEMA, SPEC, Project

DAILY = {"schedule": {"cron": "0 2 * * *", "timezone": "UTC"}, "active": True, "parameters": {}}


@pytest.fixture
def model(tmp_path):
    return Project(tmp_path).model()


def rules(model, name, terms=None, **spec):
    version = DeploymentVersion(
        deployment=name,
        spec={**SPEC, **spec},
        code=SourceCode(blob="b" * 64),
        terms={} if terms is None else terms.to_dict(),
    )
    return [finding.rule for finding in new_findings(model, version)]


def test_a_version_that_changes_nothing_brings_none(model):
    assert rules(model, "clean/p", Terms(inputs=("raw",), outputs=("flights",))) == []


def test_a_new_deployment_is_checked_too_but_may_come_before_its_producers(model):
    assert rules(model, "other/p", Terms(inputs=("absent",))) == []
    assert rules(model, "other/p", Terms(outputs=("flights",))) == ["two-writers"]
    assert rules(model, "other/p", Terms(inputs=("report",), outputs=("raw",))) == ["cycle", "two-writers"]


def test_schedules_that_the_command_sets_are_checked(model):
    assert rules(model, "clean/p", schedules=[DAILY]) == []
    assert rules(model, "clean/p", schedules=[DAILY, DAILY]) == ["duplicate-schedule"]


def test_defaults_that_the_new_flow_does_not_take_are_told(model):
    assert rules(model, "clean/p", parameters={"batch": "x"}) == []
    assert rules(model, "clean/p", parameters={"bacth": "x"}) == ["parameter-break"]
    required = {**SCHEMA, "required": ["batch"]}
    assert rules(model, "clean/p", parameter_openapi_schema=required, schedules=[DAILY]) == ["parameter-break"]

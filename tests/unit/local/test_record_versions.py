"""Records of older versions are brought into the present form, in one place."""

import pytest

from prefect_intelligent.local.record_versions import UPCASTERS, leave_out, left_out, upcast, version_of
from prefect_intelligent.pipelines.version import PULL_STEP


@pytest.fixture
def kind(monkeypatch):
    """A kind that is in its third version."""
    steps = (lambda record: {"b": record["a"]}, lambda record: {"c": record["b"] + 1})
    monkeypatch.setitem(UPCASTERS, "kind", steps)
    return "kind"


@pytest.mark.parametrize(
    ("version", "record", "present"),
    [(1, {"a": 1}, {"c": 2}), (2, {"b": 1}, {"c": 2}), (3, {"c": 2}, {"c": 2}), (9, {"d": 0}, {"d": 0})],
)
def test_each_version_goes_through_the_steps_that_it_lacks(kind, version, record, present):
    assert upcast(kind, version, record) == present


def test_a_kind_without_steps_is_of_version_1():
    assert (version_of("decision"), upcast("decision", 1, {"a": 1})) == (1, {"a": 1})


def test_a_kind_has_one_version_more_than_steps(kind):
    assert version_of(kind) == 3


def test_what_was_left_out_is_named_once_and_counted(caplog):
    before = left_out().get("test", 0)
    for record in ({"n": 1}, {"n": 1}, {"n": 2}):
        leave_out("test", record, KeyError("m"))
    assert left_out()["test"] - before == 2
    assert caplog.text.count("{'n': 1}") == 1
    assert "a record of kind 'test' cannot be read and is left out (KeyError('m'))" in caplog.text


def test_changes_of_pipelines_that_were_begun_before_the_pull_step_moved_write_its_present_path():
    old = {"pull_steps": [{"prefect_intelligent.adapters.pull.use_version": {"version": "v"}}], "tags": ["a"]}
    record = {"name": "n", "changes": [{"resource": "deployment:f/d", "before": None, "after": old}]}
    (change,) = upcast("pipeline-intent", 1, record)["changes"]
    assert change["after"] == {"pull_steps": [{PULL_STEP: {"version": "v"}}], "tags": ["a"]}

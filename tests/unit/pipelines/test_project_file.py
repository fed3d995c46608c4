"""The project file: what it can say and how it is refused."""

import pytest

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.pipelines.project_file import WaitPolicy, read_project, with_terms

TEXT = """
external = ["bts"]
wait = "2h"
on_late = "skip"

[deployments."report/prod"]
on_late = "stale"
terms = { inputs = ["flights"], late_usd_per_hour = 500 }

[deployments."report/prod".expects.flights]
delay = { type = "INTEGER", min = -100 }
carrier = "text"
"""


def test_wait_policies_terms_and_shapes_are_read():
    project = read_project(TEXT)
    assert project.external == {"bts"}
    assert project.wait_policy_of("other/x") == WaitPolicy(wait_s=7200, on_late="skip")
    assert project.wait_policy_of("report/prod") == WaitPolicy(wait_s=7200, on_late="stale")
    assert project.terms_of("report/prod", Terms(failure_usd=3)).late_usd_per_hour == 500
    assert project.terms_of("report/prod", Terms(failure_usd=3)).failure_usd == 3
    delay = project.expects["report/prod"]["flights"]["delay"]
    assert (delay.type, delay.minimum, delay.maximum) == ("integer", -100, None)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("external = 3", InvalidInputError, "list of dataset names"),
        ("wait = 'soon'", InvalidInputError, "span"),
        ("on_late = 'never'", UnknownNameError, "on_late"),
        ("waits = '2h'", UnknownNameError, "did you mean 'wait'"),
        ("= 3", InvalidInputError, "valid TOML"),
        ("[deployments.'a/b'.terms]\ninput = ['x']", UnknownNameError, "inputs"),
        ("[deployments.'a/b'.terms]\ninputs = ['x']\noutputs = ['x']", InvalidInputError, "writes itself"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(text, error, words):
    with pytest.raises(error, match=words) as caught:
        read_project(text)
    assert "\n" not in str(caught.value)


def test_one_term_is_set_and_the_rest_of_the_file_kept():
    text = with_terms("# mine\n", "clean/prod", "late_usd_per_hour", 500.0)
    assert text.startswith("# mine\n")
    again = with_terms(text, "clean/prod", "late_usd_per_hour", 600.0)
    assert read_project(again).terms_of("clean/prod", Terms()).late_usd_per_hour == 600
    assert again.count("late_usd_per_hour") == 1

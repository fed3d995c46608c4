"""`@intelligent` and `attach`: the flow stays what it was, and what cannot be used is refused in one line."""

from datetime import timedelta
from pathlib import Path

import cloudpickle
import pytest
from prefect import Flow, flow

from prefect_intelligent import attach, intelligent
from prefect_intelligent.domain import ClockDeadline, RelativeDeadline, Terms
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.flow.decorator import terms_of
from prefect_intelligent.flow.hooks import find_contract

LISTS = [
    ("on_running_hooks", "report_running"),
    ("on_completion_hooks", "report_completed"),
    ("on_failure_hooks", "report_failed"),
    ("on_crashed_hooks", "report_crashed"),
    ("on_cancellation_hooks", "report_cancelled"),
]


def mine(flow, flow_run, state):
    """A user's hook."""


def new_flow(**options):
    @flow(**options)
    def work(n: int = 1) -> int:
        return n

    return work


def test_the_same_object_comes_back_with_its_terms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "mart.yml").touch()
    plain = new_flow(name="mart")
    decorated = intelligent(
        deadline="07:00 Europe/Paris",
        late_usd_per_hour=40,
        failure_usd=15,
        expected="5m",
        inputs=["flights_clean"],
        outputs=["mart"],
        resources=["warehouse"],
        contract="contracts/mart.yml",
    )(plain)
    assert decorated is plain
    assert type(plain) is Flow
    terms = terms_of(plain)
    assert isinstance(terms.deadline, ClockDeadline)
    assert str(terms.deadline) == "07:00 Europe/Paris"
    assert terms == Terms(
        deadline=terms.deadline,
        late_usd_per_hour=40.0,
        failure_usd=15.0,
        expected_s=300.0,
        inputs=("flights_clean",),
        outputs=("mart",),
        resources=("warehouse",),
        contract="contracts/mart.yml",
    )


def test_a_batch_that_is_no_parameter_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"parameter of flow 'work' \(batch\): got 'm'"):
        attach(new_flow(), batch="m")
    assert terms_of(attach(new_flow(), batch="n")).batch == "n"

    @flow
    def takes_any(**parameters):
        return parameters

    assert terms_of(attach(takes_any, batch="day")).batch == "day"


def test_a_contract_is_found_here_or_beside_the_flow_or_above_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=r"contract: got 'nope.yml'; there is no such file"):
        attach(new_flow(), contract="nope.yml")
    assert find_contract("unit/flow/test_decorator.py", mine) == Path(__file__)
    (tmp_path / "nope.yml").touch()
    assert terms_of(attach(new_flow(), contract="nope.yml")).contract == "nope.yml"


@pytest.mark.parametrize(("attribute", "name"), LISTS)
def test_hooks_of_the_user_are_kept_and_come_first(attribute, name):
    theirs = [mine]
    decorated = attach(new_flow(**{attribute.removesuffix("_hooks"): theirs}))
    assert [hook.__name__ for hook in getattr(decorated, attribute)] == ["mine", name]
    assert theirs == [mine]


def test_flows_that_shared_a_list_of_hooks_share_it_no_more():
    shared = [mine]
    one, two = new_flow(on_completion=shared), new_flow(on_completion=shared)
    copy = one.with_options(name="copy")
    attach(one)
    assert two.on_completion_hooks == copy.on_completion_hooks == [mine]


def test_a_flow_made_with_options_keeps_terms_and_hooks_and_may_get_its_own():
    one = attach(new_flow(name="one"), late_usd_per_hour=7)
    two = one.with_options(name="two", retries=3)
    assert terms_of(two) is terms_of(one)
    assert [hook.__name__ for hook in two.on_completion_hooks] == ["report_completed"]
    attach(two, late_usd_per_hour=9)
    assert [hook.__name__ for hook in two.on_completion_hooks] == ["report_completed"]
    assert (terms_of(one).late_usd_per_hour, terms_of(two).late_usd_per_hour) == (7, 9)
    assert terms_of(two.with_options(retries=1)).late_usd_per_hour == 9
    # New hooks of one kind replace all of that kind, as Prefect defines it; the terms stay.
    three = one.with_options(name="three", on_completion=[mine])
    assert three.on_completion_hooks == [mine]
    assert terms_of(three) is terms_of(one)


@pytest.mark.parametrize("use", [lambda f: intelligent(f), lambda f: intelligent()(f), attach])
def test_it_can_be_used_without_terms(use):
    plain = new_flow()
    assert use(plain) is plain
    assert terms_of(plain) == Terms()


def test_a_plain_flow_has_no_terms():
    assert terms_of(new_flow()) is None


def test_async_and_generator_flows_and_methods_are_flows_too():
    @intelligent(expected=3)
    @flow
    async def asynchronous():
        return 1

    @intelligent(expected=timedelta(minutes=2))
    @flow
    def generator():
        yield 1

    class Jobs:
        @intelligent(expected=5.5)
        @flow
        def method(self):
            return 1

    found = [terms_of(f).expected_s for f in (asynchronous, generator, Jobs.method, Jobs().method)]
    assert found == [3.0, 120.0, 5.5, 5.5]
    assert (asynchronous.isasync, generator.isgenerator) == (True, True)


def test_terms_and_hooks_survive_pickling():
    decorated = attach(new_flow(name="p", on_failure=[mine]), deadline=timedelta(minutes=30), late_usd_per_hour=3)
    back = cloudpickle.loads(cloudpickle.dumps(decorated))
    assert terms_of(back) == terms_of(decorated)
    assert terms_of(back).deadline == RelativeDeadline(within_s=1800)
    assert [hook.__name__ for hook in back.on_failure_hooks] == ["mine", "report_failed"]


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"late_usd_per_hour": -1}, "late_usd_per_hour: got -1.0; must be a number of US dollars, 0 or more"),
        ({"late_usd_per_hour": float("nan")}, "late_usd_per_hour: got nan"),
        ({"failure_usd": "a lot"}, "failure_usd: got 'a lot'; must be a number"),
        ({"deadline": "tomorrow"}, "deadline: got 'tomorrow'; expected a span such as '45m'"),
        ({"deadline": "07:00"}, "deadline: got '07:00'"),
        ({"deadline": "25:00 Europe/Paris"}, "hours go from 0 to 23"),
        ({"deadline": 7}, "deadline: got 7"),
        ({"deadline": timedelta(0)}, "a span must be above 0"),
        ({"expected": "soon"}, "expected: got 'soon'"),
        ({"expected": 0}, "must be a number of seconds above 0"),
        ({"inputs": "flights"}, "inputs: got 'flights'; must be a list of names"),
        ({"resources": [1]}, "resources: got"),
        ({"contract": 3}, "contract: got 3"),
    ],
)
def test_a_term_that_cannot_be_used_is_refused_in_one_line_and_nothing_is_attached(terms, says):
    plain = new_flow()
    with pytest.raises(InvalidInputError) as caught:
        attach(plain, **terms)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert terms_of(plain) is None
    assert plain.on_completion_hooks == []


def test_an_unknown_zone_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'Europe/Paris'\?"):
        intelligent(deadline="07:00 Europe/Pariss")


def test_a_zone_that_is_like_no_other_is_refused_with_an_example():
    with pytest.raises(UnknownNameError, match=r"unknown time zone: got 'Mars/Olympus'; .* such as 'Europe/Paris'$"):
        intelligent(deadline="07:00 Mars/Olympus")


def test_an_argument_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"argument of @intelligent: got 'deadlin'; did you mean 'deadline'\?"):
        intelligent(deadlin="45m")


def test_a_second_decorator_is_refused():
    with pytest.raises(InvalidInputError, match="already has its terms"):

        @intelligent(deadline="1h")
        @intelligent(deadline="2h")
        @flow
        def twice():
            """Two decorators."""


def test_the_wrong_order_is_refused():
    with pytest.raises(InvalidInputError, match="above @flow"):

        @flow
        @intelligent(deadline="1h")
        def upside_down():
            """The decorators are the wrong way round."""


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@h/db::t", "postgresql://u@h/db?password=s3cret::t"])
def test_a_password_in_a_name_is_refused_and_not_shown(url):
    with pytest.raises(InvalidInputError, match=r"outputs.*PGPASSWORD") as caught:
        attach(new_flow(), outputs=[url])
    assert "s3cret" not in str(caught.value)
    assert terms_of(attach(new_flow(), outputs=["postgresql://u@h/db::t"])).outputs == ("postgresql://u@h/db::t",)

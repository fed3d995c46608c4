"""Deadlines: spans and clock times, across the changes of daylight saving."""

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from prefect_intelligent.domain import ClockDeadline, RelativeDeadline, Terms, parse_deadline
from prefect_intelligent.errors import InvalidInputError, UnknownNameError

PARIS = ZoneInfo("Europe/Paris")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS, fold=fold).timestamp()


def test_a_relative_deadline_counts_from_the_scheduled_start():
    assert RelativeDeadline(within_s=60).due_s(1000) == 1060


def test_a_clock_deadline_is_the_next_such_time_in_its_zone():
    by_seven = parse_deadline("07:00 Europe/Paris")
    assert by_seven.due_s(at("2026-06-10 02:00")) == at("2026-06-10 07:00")
    assert by_seven.due_s(at("2026-06-10 07:00")) == at("2026-06-11 07:00")
    assert by_seven.due_s(at("2026-06-10 23:59")) == at("2026-06-11 07:00")


def test_a_night_with_a_spring_change_is_an_hour_shorter():
    start = at("2026-03-29 00:00")  # clocks jump from 02:00 to 03:00 this night
    assert parse_deadline("by 07:00 Europe/Paris").due_s(start) - start == 6 * 3600


def test_a_night_with_an_autumn_change_is_an_hour_longer():
    start = at("2026-10-25 00:00")  # clocks fall from 03:00 to 02:00 this night
    assert parse_deadline("07:00 Europe/Paris").due_s(start) - start == 8 * 3600


def test_a_time_that_the_spring_change_skips_falls_after_the_gap():
    assert parse_deadline("02:30 Europe/Paris").due_s(at("2026-03-29 00:00")) == at("2026-03-29 03:30")


def test_a_time_that_the_autumn_change_repeats_means_its_first_occurrence():
    assert parse_deadline("02:30 Europe/Paris").due_s(at("2026-10-25 00:00")) == at("2026-10-25 02:30", fold=0)


def test_between_the_two_occurrences_of_a_repeated_time_the_next_day_is_meant():
    by = parse_deadline("02:30 Europe/Paris")
    assert by.due_s(at("2026-10-25 02:10", fold=1)) == at("2026-10-26 02:30")


@pytest.mark.parametrize("text", ["25:00 Europe/Paris", "07:61 UTC", "tomorrow", "07:00"])
def test_what_is_not_a_deadline_is_refused(text):
    with pytest.raises(InvalidInputError, match="deadline"):
        parse_deadline(text)


def test_a_zone_that_does_not_exist_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'Europe/Paris'"):
        parse_deadline("07:00 Europe/Pariss")


@pytest.mark.parametrize("text", ["1h30m", "07:00 Europe/Paris"])
def test_a_deadline_writes_itself_as_it_is_read(text):
    assert str(parse_deadline(text)) == text


def test_a_clock_deadline_needs_no_parser():
    assert ClockDeadline(at=time(7), zone="UTC").due_s(0) == 7 * 3600


class TestTerms:
    FULL = Terms(
        deadline=parse_deadline("2h"),
        late_usd_per_hour=40,
        failure_usd=5,
        expected_s=90,
        inputs=("raw",),
        outputs=("mart",),
        resources=("warehouse",),
        contract="contracts/mart.yml",
    )

    def test_terms_survive_json(self):
        assert Terms.from_dict(self.FULL.to_dict()) == self.FULL

    def test_only_what_differs_from_the_default_is_written(self):
        assert Terms().to_dict() == {}

    @pytest.mark.parametrize("field", ["late_usd_per_hour", "failure_usd"])
    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
    def test_a_price_must_be_money(self, field, value):
        with pytest.raises(InvalidInputError, match=field):
            Terms(**{field: value})

    def test_an_estimate_must_be_above_zero(self):
        with pytest.raises(InvalidInputError, match="expected_s"):
            Terms(expected_s=0)

    def test_a_single_name_is_not_a_list_of_names(self):
        with pytest.raises(InvalidInputError, match="list of names"):
            Terms(inputs="raw")

    def test_an_unknown_term_names_the_nearest(self):
        with pytest.raises(UnknownNameError, match="did you mean 'deadline'"):
            Terms.from_dict({"deadlin": "2h"})

    def test_a_value_of_the_wrong_type_is_bad_input(self):
        with pytest.raises(InvalidInputError, match="must be a number of US dollars"):
            Terms.from_dict({"failure_usd": "five"})

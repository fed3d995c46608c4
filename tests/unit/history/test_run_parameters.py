"""Of a run's parameters only what is typed, short and nobody's secret is kept."""

import json
import math

import pytest

from prefect_intelligent.history.run_parameters import (
    LONGEST_WORD,
    MOST_PARAMETERS,
    bounded,
    pack,
    unpack,
)

AT_S = 1_700_000_000.0


def test_numbers_booleans_and_short_words_stay_what_they_are():
    assert bounded({"rows": 5, "share": 0.5, "full": True, "mode": "eu-west 1"}) == {
        "rows": 5.0,
        "share": 0.5,
        "full": True,
        "mode": "eu-west 1",
    }


def test_of_texts_and_lists_the_length_is_kept_and_of_dates_the_age():
    found = bounded(
        {
            "names": ["a", "b"],
            "query": "SELECT " + "x, " * 100_000,
            "day": "2023-11-14",
            "since": "2023-11-14T22:13:20Z",
            "config": {"depth": 3, "inner": {"a": 1}},
            "many": dict.fromkeys(map(str, range(1000)), 1),
        },
        AT_S,
    )
    assert found == {
        "len(names)": 2.0,
        "len(query)": 300_007.0,
        "age(day)": 80_000.0,
        "age(since)": 0.0,
        "config.depth": 3.0,
        "len(config.inner)": 1.0,
        "len(many)": 1000.0,
    }
    assert bounded({"day": "2023-99-99", "year": "0001-01-01"}, AT_S)["age(year)"] > 6e10
    assert bounded({"day": "2023-11-14"}) == {}  # without an instant there is no age


@pytest.mark.parametrize(
    "name",
    ["password", "db_passwd", "apiKey", "API_KEY", "secret_name", "accessToken", "x_auth", "client_credential", "dsn"],
)
@pytest.mark.parametrize("value", ["abc", 1234, True, ["a"]])
def test_a_parameter_whose_name_means_a_secret_is_not_kept_in_any_form(name, value):
    assert bounded({name: value, "config": {name: value}}) == {}


@pytest.mark.parametrize(
    "value",
    [
        "ghp_16C7e42F292c6912E7",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-4f9aB12cD34e",
        "hunter2!",
        "me@example.com",
        "postgres://u:p@h/db",
        "eyJhbGciOiJIUzI1NiJ9.e30",
        "5f3a9c1e8b7d4a60",
        "c0ffee00-1234",
        "4111111111111111",
        "JBSWY3DPEHPK3PXP",
        "s3cr3tPassphrase",
    ],
)
def test_a_value_that_looks_like_a_secret_an_address_or_an_id_is_not_kept(value):
    kept = pack(bounded({"mode": value})) or ""
    assert value not in kept
    assert value[:8] not in kept


def test_what_is_kept_is_bounded_whatever_a_run_was_given():
    huge = {f"parameter {number:05d} " + "x" * (number % 90): "w" * (number % 50 + 1) for number in range(3000)}
    huge |= {"n": 10**400, "nan": math.nan, "inf": math.inf, "none": None, "empty": ""}
    found = bounded(huge)
    assert len(found) <= MOST_PARAMETERS
    assert all(len(value) <= LONGEST_WORD for value in found.values() if isinstance(value, str))
    assert len(pack(found)) < 2500
    assert bounded({"n": 10**400, "nan": math.nan, "inf": math.inf, "none": None, "empty": ""}) == {}


def test_odd_names_and_two_of_one_name_stop_nothing():
    odd = {"a.b": 1, "a": {"b": {"c": 1}, "": 2}, "": "x", "\x00": True, "数据": "日", 7: 1.5, "\ud800": 3}
    found = bounded(odd)
    assert found["数据"] == "日"
    assert found["7"] == 1.5
    assert unpack(pack(found)) == tuple(sorted(found.items()))
    pack(found).encode()  # what a database takes


def test_words_that_only_contain_a_secret_word_are_kept():
    assert bounded({"passenger_count": 3, "pinned": True, "spin": 1.0}) == {
        "passenger_count": 3.0,
        "pinned": True,
        "spin": 1.0,
    }
    assert bounded({"user_pin": 1234, "pin": 1, "otp": 2}) == {}


def test_a_line_reads_as_it_was_written_and_a_damaged_one_as_nothing():
    given = {"b": True, "a": 1.0, "c": "x"}
    assert unpack(pack(given)) == (("a", 1.0), ("b", True), ("c", "x"))
    assert pack({}) is None
    for damaged in (None, "", "{", "[1]", "7", float("nan")):
        assert unpack(damaged) == ()
    assert unpack(json.dumps({"a": 1, "b": None, "c": [1]})) == (("a", 1.0),)

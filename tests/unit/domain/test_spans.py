"""Spans of time: read, written exactly, and told to people."""

import pytest

from prefect_intelligent.domain.spans import describe_span, format_span, parse_span
from prefect_intelligent.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("45min", 2700), ("1h30m", 5400), ("1h 30m", 5400), ("2d", 172800), ("0.5h", 1800)],
)
def test_a_span_is_read_in_seconds(text, seconds):
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5", "-5m", "0s", "1h30", "5 parsecs"])
def test_what_is_not_a_span_is_refused_with_an_example(text):
    with pytest.raises(InvalidInputError, match="'45m'"):
        parse_span(text)


@pytest.mark.parametrize("seconds", [1, 61, 3600, 5400.5, 90061])
def test_a_formatted_span_reads_back(seconds):
    assert parse_span(format_span(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0, "0 s"), (0.4, "0 s"), (90, "90 s"), (119, "119 s"), (120, "2 min"), (150, "2.5 min"),
        (300, "5 min"), (597, "10 min"), (3600, "60 min"), (7200, "2 h"), (9000, "2.5 h"), (43200, "12 h"),
        (86400, "24 h"), (3 * 86400, "3 d"), (12.4 * 86400, "12 d"),
    ],
)  # fmt: skip
def test_a_span_is_told_in_about_two_digits(seconds, text):
    assert describe_span(seconds) == text

"""Tables keep names whole, and say what they leave out."""

import pytest

from prefect_intelligent.cli.tables import print_table

NAME = "a-pipeline-with-a-name-of-some-length/that-ends-in-production"
ROWS = [
    {"name": NAME, "runs": "12", "cost": "$1.50", "queue": "the-queue-of-reports", "why": "late twice, and long " * 3},
    {"name": "東京/日次", "runs": "7", "cost": "-", "queue": "default", "why": "-"},
]


@pytest.fixture
def width(monkeypatch):
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


def test_in_a_pipe_all_columns_stand_on_one_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(ROWS, title="Of all", text="why")
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Of all"
    assert len(out) == 5
    assert ROWS[0]["why"].strip() in out[3]


@pytest.mark.parametrize("columns", [40, 80, 100, 120])
def test_no_word_is_broken_at_any_width_and_what_is_missing_is_named(width, capsys, columns):
    width(columns)
    print_table(ROWS, text="why")
    out = capsys.readouterr().out
    words = {word for row in ROWS for cell in row.values() for word in cell.split()}
    *lines, last = out.splitlines()
    shown = lines[0].split()
    left_out = [name for name in ROWS[0] if name not in shown]
    body = lines[2:] if left_out else [*lines[2:], last]
    assert {word for line in body for word in line.split()} <= words
    assert NAME in out
    if left_out:
        assert last == f"Left out for want of room: {', '.join(left_out)}; --json has them."
    assert all(len(line) <= max(columns, len(NAME)) for line in lines if line.isascii())


def test_columns_go_in_the_order_asked_for(width, capsys):
    width(75)
    print_table([{"a": "x" * 40, "b": "y" * 20, "c": "z" * 20}], drop=("b",))
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head == ["a", "c"]


def test_numbers_stand_at_the_right(width, capsys):
    width(200)
    print_table([{"n": "a", "usd": "$1.50"}, {"n": "b", "usd": "-"}, {"n": "c", "usd": "+120.25"}])
    assert [line[-1] for line in capsys.readouterr().out.splitlines()[2:]] == ["0", "-", "5"]


def test_a_table_without_rows_is_its_title(capsys):
    print_table([], title="Nothing")
    assert capsys.readouterr().out == "Nothing\n"

"""Every history store keeps the same promises: the one in memory, SQLite and PostgreSQL."""

import subprocess
import sys
import uuid

import pytest
from sqlalchemy import text

from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.history.adapters.migrations import upgrade
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.testing.history import InMemoryHistory

POSTGRES = "postgresql://postgres@127.0.0.1:5432/"


@pytest.fixture(scope="module")
def postgres_url():
    admin = open_engine(POSTGRES + "postgres").execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection = admin.connect()
    except Exception as error:
        pytest.skip(f"no PostgreSQL on 127.0.0.1:5432 ({type(error).__name__})")
    name = f"pi_history_{uuid.uuid4().hex[:12]}"
    with connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
        yield POSTGRES + name
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/history.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def database(url):
    """A store on a database."""
    store = open_history(url)
    yield store
    for kind in ("decision", "original", "crowd"):
        store.forget(kind, float("inf"))


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    """A store of any sort."""
    if request.param == "memory":
        yield InMemoryHistory()
        return
    store = open_history(
        f"sqlite:///{tmp_path}/h.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    yield store
    for kind in ("decision", "original", "crowd"):
        store.forget(kind, float("inf"))


def test_the_newest_record_is_the_last_one_written_whatever_its_clock_says(store):
    store.append("decision", "etl", 200.0, {"n": 1})
    store.append("decision", "etl", 100.0, {"n": 2})
    store.append("decision", "other", 300.0, {"n": 3})
    store.append("original", "etl", 300.0, {"n": 4})
    assert store.latest("decision", "etl") == {"n": 2}


def test_there_is_no_newest_record_of_what_was_never_written(store):
    assert store.latest("decision", "etl") is None
    assert list(store.records("decision")) == []


def test_records_come_in_the_order_of_writing_and_can_be_narrowed(store):
    for n in range(5):
        store.append("decision", "etl" if n % 2 else "ml", 100.0 + n, {"n": n})
    assert [r["n"] for r in store.records("decision")] == [0, 1, 2, 3, 4]
    assert [r["n"] for r in store.records("decision", pool="etl")] == [1, 3]
    assert [r["n"] for r in store.records("decision", since_s=103.0)] == [3, 4]


def test_a_record_comes_back_as_it_went_in(store):
    record = {"limit": None, "rate": 0.1 + 0.2, "nested": {"a": [1, "ü", {"b": False}]}, "at_s": 1764000000.123456}
    store.append("decision", "etl", 1.0, record)
    assert store.latest("decision", "etl") == record


def test_numbers_of_records_grow(store):
    first = store.append("decision", "etl", 1.0, {})
    assert store.append("decision", "etl", 1.0, {}) > first


def test_forgetting_takes_only_what_is_older_and_of_that_kind(store):
    store.append("decision", "etl", 1.0, {"n": 1})
    store.append("decision", "etl", 2.0, {"n": 2})
    store.append("original", "etl", 1.0, {"n": 3})
    assert store.forget("decision", 2.0) == 1
    assert [r["n"] for r in store.records("decision")] == [2]
    assert store.latest("original", "etl") == {"n": 3}


def test_a_record_outlives_its_store(url, database):
    database.append("original", "etl", 1.0, {"kept": True})
    assert open_history(url).latest("original", "etl") == {"kept": True}


WRITER = """
import sys
from prefect_intelligent.history.adapters.sql_records import open_history
url, writer = sys.argv[1], int(sys.argv[2])
store = open_history(url)
for n in range(25):
    store.append("crowd", f"pool-{writer}", float(n), {"writer": writer, "n": n})
"""


def test_several_processes_write_at_once_and_nothing_is_lost(url, database):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, str(writer)]) for writer in range(3)]
    assert [process.wait() for process in writers] == [0, 0, 0]
    found = [(r["writer"], r["n"]) for r in database.records("crowd")]
    assert sorted(found) == [(writer, n) for writer in range(3) for n in range(25)]
    assert [n for writer, n in found if writer == 1] == list(range(25))


def test_making_the_tables_again_keeps_what_is_in_them(url, database):
    database.append("decision", "etl", 1.0, {"n": 1})
    upgrade(open_engine(url))
    assert database.latest("decision", "etl") == {"n": 1}


def test_a_number_that_is_not_one_is_refused_before_it_is_stored(store):
    with pytest.raises(StoreError):
        store.append("decision", "etl", 1.0, {"rate": float("nan")})
    assert store.latest("decision", "etl") is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "expected e.g. sqlite:"),
        ("mysql://localhost/x", "expected a sqlite: or postgresql: URL"),
        ("sqlite://", "must name a file"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_can(url, says):
    with pytest.raises(InvalidInputError, match=says):
        open_history(url)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "h.db").write_text("this is not a database, and long enough to be looked at as one" * 40)
    with pytest.raises(StoreError, match="file is not a database") as caught:
        open_history(f"sqlite:///{tmp_path}/h.db")
    assert "\n" not in str(caught.value)

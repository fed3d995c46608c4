"""Schemas of the history: made, adopted, upgraded and refused, on SQLite and on PostgreSQL."""

import shutil
import subprocess
import sys

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import make_url

from prefect_intelligent.errors import StoreError
from prefect_intelligent.history.adapters import migrations
from prefect_intelligent.history.adapters.migrations import HEAD, VERSION_TABLE, upgrade
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.adapters.sql_tables import METADATA, RECORDS
from prefect_intelligent.local.record_versions import UPCASTERS
from tests.stored_state import load_postgres, unpack

NEXT = """
import sqlalchemy as sa

revision = "9999"
down_revision = "{head}"


def upgrade(op):
    op.create_table("pi_test_upgrades", sa.Column("number", sa.Integer, primary_key=True))
    op.execute("INSERT INTO pi_test_upgrades (number) VALUES (1)")
    {more}
"""
OPEN = """
import sys
from pathlib import Path
from prefect_intelligent.history.adapters.migrations import upgrade
from prefect_intelligent.history.adapters.sql_records import open_engine
url, folder, head = sys.argv[1:]
engine = open_engine(url)
print("ready", flush=True)
sys.stdin.readline()
upgrade(engine, head=head, folder=Path(folder))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def old(url, tmp_path):
    """A database that commit d3fb4ea has written."""
    if url.startswith("sqlite"):
        (unpack(tmp_path / "old") / "history.db").rename(tmp_path / "history.db")
    else:
        load_postgres(url)
    return url


@pytest.fixture
def engine(url):
    made = open_engine(url)
    yield made
    made.dispose()


def revisions(tmp_path, more=""):
    """The folder of revisions with one more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "r9999_test.py").write_text(NEXT.format(head=HEAD, more=more))
    return folder


def number(engine, schema=None):
    with engine.connect() as connection:
        place = VERSION_TABLE if schema is None else f"{schema}.{VERSION_TABLE}"
        return connection.execute(text(f"SELECT version_num FROM {place}")).scalar_one()


def shape(engine, without=()):
    """All that can be seen of the tables."""
    found = inspect(engine)
    return {
        name: (
            [{**column, "type": str(column["type"])} for column in found.get_columns(name)],
            found.get_pk_constraint(name),
            sorted(found.get_indexes(name), key=lambda index: index["name"]),
            found.get_unique_constraints(name),
        )
        for name in found.get_table_names()
        if name.startswith("pi_") and name not in without
    }


def triggers(engine):
    with engine.connect() as connection:
        found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"))
        return [(name, " ".join(sql.split())) for name, sql in found]


def test_an_empty_database_gets_all_tables(engine):
    upgrade(engine)
    assert number(engine) == HEAD
    assert {*METADATA.tables, VERSION_TABLE} == set(inspect(engine).get_table_names())


def test_the_revisions_make_the_tables_that_the_code_uses(engine):
    upgrade(engine)
    ours = {
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "table" or name != VERSION_TABLE,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), METADATA) == []


def test_the_first_revision_makes_what_commit_d3fb4ea_made(old, tmp_path, request):
    written = open_engine(old)
    before = shape(written)
    upgrade(written, head="0001", folder=only_first(tmp_path))
    assert shape(written, {VERSION_TABLE}) == before
    fresh = open_engine(another(old, tmp_path, request))
    upgrade(fresh, head="0001", folder=tmp_path / "first")
    assert shape(fresh, {VERSION_TABLE}) == before
    if old.startswith("sqlite"):
        assert triggers(fresh) == triggers(written) != []
    for each in (written, fresh):
        each.dispose()


def only_first(tmp_path):
    folder = tmp_path / "first"
    (folder / "versions").mkdir(parents=True)
    shutil.copy(f"{migrations.__path__[0]}/versions/r0001_baseline.py", folder / "versions")
    return folder


def another(url, tmp_path, request):
    if url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/another.db"
    request.getfixturevalue("postgres_database")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA another")
    return f"{url}?options=-csearch_path%3Danother"


def test_a_database_without_a_number_is_adopted_with_all_that_is_in_it(old):
    engine = open_engine(old)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT id, kind, pool, at_s, record FROM pi_records ORDER BY id")).all()
    upgrade(engine)
    with engine.connect() as connection:
        after = connection.execute(text("SELECT id, kind, pool, at_s, record FROM pi_records ORDER BY id")).all()
        versions = connection.execute(text("SELECT DISTINCT version FROM pi_records")).scalars().all()
    assert (number(engine), versions) == (HEAD, [1])
    assert after == before
    engine.dispose()


@pytest.mark.parametrize("there", ["records", "runs"])
def test_a_database_with_only_some_of_the_tables_gets_the_others(old, there):
    """Until now each table was made by what used it first."""
    engine = open_engine(old)
    with engine.begin() as connection:
        for name in METADATA.tables:
            if (name == "pi_records") != (there == "records"):
                connection.execute(text(f"DROP TABLE {name}"))
    upgrade(engine)
    assert {*METADATA.tables, VERSION_TABLE} == set(inspect(engine).get_table_names())
    engine.dispose()


def test_a_copy_without_its_number_is_opened_all_the_same(engine, url):
    open_history(url).append("decision", "etl", 1.0, {"n": 1})
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    assert open_history(url).latest("decision", "etl") == {"n": 1}
    assert number(engine) == HEAD


def test_opening_what_is_up_to_date_is_one_query(engine):
    upgrade(engine)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    upgrade(engine)
    assert len(asked) == 1


def test_two_processes_that_open_at_once_upgrade_once(old, tmp_path):
    folder = revisions(tmp_path)
    command = [sys.executable, "-c", OPEN, old, str(folder), "9999"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    engine = open_engine(old)
    assert number(engine) == "9999"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT number FROM pi_test_upgrades")).scalars().all() == [1]
        assert connection.execute(text("SELECT count(*) FROM pi_records")).scalar_one() == 75
    engine.dispose()


def test_who_comes_while_another_upgrades_waits_for_it(old, tmp_path):
    engine, folder = open_engine(old), revisions(tmp_path)
    command = [sys.executable, "-c", OPEN, old, str(folder), "9999"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "ready\n"
    with migrations._alone(engine) as connection:
        other.stdin.write("\n")
        other.stdin.flush()
        migrations._run(connection, folder)
        assert other.poll() is None
    other.communicate()
    assert other.returncode == 0
    assert number(engine) == "9999"
    engine.dispose()


def test_an_upgrade_that_fails_leaves_everything_as_it_was(old, tmp_path):
    engine = open_engine(old)
    before = shape(engine)
    folder = revisions(tmp_path, more='op.execute("SELECT nonsense FROM nowhere")')
    with pytest.raises(StoreError, match="cannot be brought to schema '9999'"):
        upgrade(engine, head="9999", folder=folder)
    assert shape(engine) == before
    upgrade(engine)
    assert number(engine) == HEAD
    engine.dispose()


def test_what_a_newer_version_has_written_is_refused_and_not_touched(url, engine, tmp_path):
    upgrade(engine, head="9999", folder=revisions(tmp_path))
    before = shape(engine)
    for opening in (lambda: open_history(url), lambda: SqlRuns(engine)):
        with pytest.raises(StoreError, match=rf"has schema '9999'.* none newer than '{HEAD}'.*Nothing was written"):
            opening()
    assert shape(engine) == before
    assert number(engine) == "9999"


def test_the_password_of_a_database_is_not_told(engine, monkeypatch):
    monkeypatch.setattr(engine, "url", engine.url.set(username="me", password="hush"))
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError) as caught:
        upgrade(engine)
    assert "hush" not in str(caught.value)


def read_only(url):
    engine = open_engine(url)

    @event.listens_for(engine, "connect")
    def _forbid(connection, _):
        connection.execute("PRAGMA query_only = ON")

    return engine


def test_a_file_that_may_only_be_read_is_read_if_it_is_up_to_date_and_says_so_if_not(tmp_path):
    url = f"sqlite:///{unpack(tmp_path / 'data')}/history.db"
    with pytest.raises(StoreError, match=rf"{url}.* cannot be brought to schema '{HEAD}': .*readonly.*; open it once"):
        SqlRuns(read_only(url))
    open_history(url)
    assert SqlRuns(read_only(url)).counts()["runs"] == 561


@pytest.mark.postgres
@pytest.mark.parametrize("path", ["pi", "pi,public"])
def test_our_tables_live_in_a_schema_of_the_users_database_beside_others(postgres_database, path):
    """Ours are in `pi`; in `public` are those of an application with Alembic revisions, and of another one of ours."""
    load_postgres(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
    load_postgres(postgres_database, "pi")
    url = make_url(postgres_database).update_query_dict({"options": f"-csearch_path={path}"})
    store = open_history(url.render_as_string(hide_password=False))
    store.append("decision", "etl", 1.0, {"n": 1})
    engine = open_engine(postgres_database)
    assert number(engine, "pi") == HEAD
    found = inspect(engine)
    assert "version" in {column["name"] for column in found.get_columns("pi_records", schema="pi")}
    assert "version" not in {column["name"] for column in found.get_columns("pi_records", schema="public")}
    assert not found.has_table(VERSION_TABLE, schema="public")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM public.alembic_version")).scalars().all() == ["theirs"]
        assert connection.execute(text("SELECT count(*) FROM pi.pi_records")).scalar_one() == 76
    upgrade(engine)
    assert number(engine) == HEAD
    engine.dispose()


def test_a_record_of_an_older_version_comes_in_the_present_form(url, monkeypatch):
    store = open_history(url)
    store.append("size", "etl", 1.0, {"kb": 1})
    store.append("size", "etl", 2.0, {})
    monkeypatch.setitem(UPCASTERS, "size", (lambda record: {"bytes": record["kb"] * 1000},))
    assert store.records("size") == [{"bytes": 1000}]
    assert store.latest("size", "etl") == {"bytes": 1000}  # the newest that can be brought into it
    store.append("size", "etl", 3.0, {"bytes": 5})
    assert store.records("size", "etl") == [{"bytes": 1000}, {"bytes": 5}]
    assert store.records("size", last=1) == [{"bytes": 5}]
    with open_engine(url).connect() as connection:
        assert connection.execute(RECORDS.select().with_only_columns(RECORDS.c.version)).scalars().all() == [1, 1, 2]


def test_there_is_one_line_of_revisions_and_its_end_is_the_head():
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(migrations.__path__[0]).get_heads() == [HEAD]

"""What an operator reads is right: pools without workers, the likely right address, no password, any alphabet."""

import json
import sys
from io import BytesIO, TextIOWrapper

import pytest

from prefect_intelligent.blocking.facts import BlockingFacts
from prefect_intelligent.cli import main
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.preflight import check_clock, check_workers


@pytest.fixture
def doctor(prefect_api, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def look(pool):
        capsys.readouterr()
        main(["doctor", "--pool", pool, "--json"])
        return json.loads(capsys.readouterr().out)["findings"]

    return look


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "level", "said"),
    [
        ("ecs:push", "fine", "needs no worker"),
        ("prefect:managed", "fine", "needs no worker"),
        ("prefect-agent", "problem", "not supported"),
        ("process", "problem", "no worker polls the pool"),
    ],
)
def test_doctor_asks_for_a_worker_only_where_one_is_needed(api, doctor, kind, level, said):
    findings = doctor(api.pool(type=kind))
    assert [finding["level"] for finding in findings if said in finding["what"]] == [level]
    assert kind == "process" or not any("no worker polls" in finding["what"] for finding in findings)


def test_a_worker_counts_while_it_polls():
    def pool(name, *ages_s):
        return BlockingFacts(at_s=9000.0, name=name, heartbeats_s=tuple(9000.0 - age_s for age_s in ages_s))

    assert check_workers(pool("p", 20.0, 4000.0)).level == "fine"
    assert "2 h ago" in check_workers(pool("p", 7200.0)).what
    assert check_workers(pool("a b")).advice == "prefect worker start --pool 'a b'"


def test_a_wrong_clock_is_named():
    assert check_clock(None) is check_clock(1.5) is None
    assert "10 min ahead of" in check_clock(600.0).what
    assert "10 min behind" in check_clock(-600.0).what


@pytest.mark.server
@pytest.mark.parametrize("path", ["", "/", "/ap"])
def test_an_address_without_api_is_told_from_a_dead_server(prefect_server, path):
    wrong = prefect_server.api_url.removesuffix("/api").replace("://", "://user:p%40ss@") + path
    client = PrefectApi(wrong, attempts=1)
    for method, route in (("GET", "/admin/version"), ("POST", "/work_pools/filter")):
        with pytest.raises(OrchestratorError) as told:
            client.call(method, route, None if method == "GET" else {})
        assert "/api?" in str(told.value)
        assert "p%40ss" not in str(told.value)
        assert "user:***@" in str(told.value)
    client.close()


def test_a_password_is_not_told_with_a_dead_server(monkeypatch, capsys, tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: "http://user:s3cret@127.0.0.1:9/api"}):
        for words in (
            ["doctor", "--pool", "p"],
            ["sync"],
            ["eta", "--pool", "p"],
            ["control", "status", "--pool", "p"],
        ):
            main(words)
            told = "".join(capsys.readouterr())
            assert "s3cret" not in told


@pytest.mark.parametrize(
    "words", [["config"], ["config", "--json"], ["explain", "--pool", "p"], ["report", "--pool", "p"]]
)
@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:9/pi", "postgresql://me@127.0.0.1:9/pi?password=s3cret&sslmode=disable"]
)
def test_the_password_of_the_history_is_not_told(monkeypatch, capsys, tmp_path, words, url):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    main(words)
    told = "".join(capsys.readouterr())
    assert told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@h:4200/api", "http://u:***@h:4200/api"),
        ("postgresql+psycopg://u:a:b@c/d@h/db", "postgresql+psycopg://u:***@h/db"),
        ("see https://ghp_token@host/x", "see https://***@host/x"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("s3://bucket/x?access_key=1&secret_key=2&region=eu", "s3://bucket/x?access_key=***&secret_key=***&region=eu"),
        ("http://127.0.0.1:4200/api and me@example.org", "http://127.0.0.1:4200/api and me@example.org"),
        ("sqlite:////var/lib/pi/history.db", "sqlite:////var/lib/pi/history.db"),
    ],
)
def test_secrets_are_masked(text, shown):
    assert mask_secrets(text) == shown


@pytest.mark.server
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_of_any_script_are_printed_on_any_terminal(prefect_api, api, monkeypatch, tmp_path, encoding):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    pool = api.pool(name=f"池-{encoding}")
    api.run(api.deployment(pool, "default", flow=f"数据-{encoding}", name="日"))
    written = "数据" if encoding == "utf-8" else "\\u6570\\u636e"
    for words in (("doctor",), ("eta",), ("control", "run", "--once", "--mode", "shadow"), ("eta", "nobody 数据")):
        terminal = TextIOWrapper(BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main([*words, "--pool", pool]) in (0, 1, 2)
        terminal.flush()
        told = terminal.buffer.getvalue().decode(encoding)
        assert told
        assert written in told or words[0] == "control"

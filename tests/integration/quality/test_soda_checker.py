"""Soda through our adapter: what it finds, and that its silent failures and its powers stay outside."""

import logging
import os
import subprocess
import sys
import threading
import uuid

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from prefect_intelligent.domain.datasets import parse_dataset
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.editing.editor import RowEditor
from prefect_intelligent.quality.adapters.profiler import new_contract, profile
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.quality.gate import Gate, GateOutcome
from prefect_intelligent.quality.model import Contract, RemediationAction, Severity, Verdict
from prefect_intelligent.quality.remediation import RemediationPolicy

CONTRACT = """
dataset: ds/main/orders
checks:
  - schema: {attributes: {severity: critical}}
  - row_count: {threshold: {must_be_greater_than: 2}}
  - freshness: {column: at, threshold: {unit: hour, must_be_less_than: 24}}
  - failed_rows: {name: Amount sane, qualifier: sane, expression: amount > 1000, attributes: {remediation: quarantine}}
columns:
  - name: order_id
    checks:
      - missing: {attributes: {severity: critical, remediation: quarantine}}
      - duplicate: {attributes: {remediation: dedupe}}
  - name: country
    data_type: varchar
    checks:
      - invalid: {valid_values: [DE, FR], threshold: {metric: percent, must_be_less_than: 50}}
  - name: amount
    checks:
      - aggregate: {function: avg, threshold: {must_be_less_than: 100}}
  - name: at
"""
NOW_S = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def frame(**columns) -> pd.DataFrame:
    data = {
        "order_id": [1.0, 2.0, 2.0, None],
        "country": ["DE", "FR", "FR", "XX"],
        "amount": [10.0, 20.0, 30.0, 5_000.0],
        "at": pd.Timestamp("2026-01-01T11:00:00"),
    }
    return pd.DataFrame({**data, **columns})


def verify(data, contract: str | Contract = CONTRACT, **options):
    return SodaChecker().verify(load_contract(contract), parse_dataset(data), at_s=NOW_S, **options)


def outcomes(result) -> dict[str, str]:
    return {check.id: str(check.outcome) for check in result.checks}


@pytest.fixture(params=["pandas", "arrow", "parquet", "csv", "duckdb", "postgres"])
def dirty(request, tmp_path):
    data = frame()
    if request.param == "pandas":
        yield data
    elif request.param == "arrow":
        yield pa.Table.from_pandas(data)
    elif request.param == "parquet":
        data.to_parquet(tmp_path / "orders.parquet")
        yield tmp_path / "orders.parquet"
    elif request.param == "csv":
        data.to_csv(tmp_path / "orders.csv", index=False)
        yield tmp_path / "orders.csv"
    elif request.param == "duckdb":
        with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
            con.execute("CREATE TABLE orders AS FROM data")
        yield f"{tmp_path / 'w.duckdb'}::orders"
    else:
        psycopg = pytest.importorskip("psycopg")
        url, name = "postgresql://postgres@127.0.0.1:5432/test", f"orders_{uuid.uuid4().hex[:8]}"
        try:
            con = psycopg.connect(url, autocommit=True, connect_timeout=2)
        except psycopg.OperationalError:
            pytest.skip("no PostgreSQL on 127.0.0.1:5432")
        with con:
            con.execute(f"CREATE TABLE {name} (order_id float, country varchar, amount float, at timestamp)")
            for row in data.astype(object).where(data.notna(), None).itertuples(index=False):
                con.execute(f"INSERT INTO {name} VALUES (%s, %s, %s, %s)", tuple(row))
            yield f"{url}::{name}"
        with psycopg.connect(url, autocommit=True) as again:
            again.execute(f"DROP TABLE {name}")


def test_every_kind_of_dataset_gets_the_same_findings(dirty):
    result = verify(dirty)
    assert result.errors == ()
    assert result.verdict is Verdict.FAILED
    assert outcomes(result) == {
        "checks.schema": "passed",
        "checks.row_count": "passed",
        "checks.freshness": "passed",
        "checks.failed_rows.sane": "failed",
        "columns.order_id.checks.missing": "failed",
        "columns.order_id.checks.duplicate": "failed",
        "columns.country.checks.invalid": "passed",
        "columns.amount.checks.aggregate": "failed",
    }
    by_id = {check.id: check for check in result.checks}
    missing = by_id["columns.order_id.checks.missing"]
    assert (missing.severity, missing.action) == (Severity.CRITICAL, RemediationAction.QUARANTINE)
    assert (missing.rows_tested, missing.rows_failed, missing.value) == (4, 1, 1.0)
    assert missing.rows is not None
    assert by_id["columns.country.checks.invalid"].value == 25.0
    assert by_id["columns.country.checks.invalid"].rows_failed == 1
    assert by_id["columns.amount.checks.aggregate"].value == 1265.0
    assert by_id["columns.order_id.checks.duplicate"].rows.keys == ("order_id",)


def test_a_renamed_column_is_bad_data_with_the_new_name_suggested():
    result = verify(frame().rename(columns={"country": "country_code"}))
    assert result.verdict is Verdict.FAILED
    assert result.drift.removed == ("country",)
    assert result.drift.renamed == (("country", "country_code"),)
    assert outcomes(result)["columns.order_id.checks.missing"] == "unknown"


@pytest.mark.parametrize(("policy", "expected"), [("warn", "warned"), ("observe", "passed"), ("block", "failed")])
def test_an_added_column_follows_the_declared_policy(policy, expected):
    text = CONTRACT.replace("severity: critical}}\n  - row", f"severity: critical, added: {policy}}}}}\n  - row")
    result = verify(frame(extra=1), text)
    assert outcomes(result)["checks.schema"] == expected
    assert result.drift.added == ("extra",)


def test_a_retyped_column_fails_the_schema_and_says_how():
    result = verify(frame(country=[1, 2, 3, 4]))
    assert result.drift.retyped[0][0] == "country"
    assert outcomes(result)["checks.schema"] == "failed"


def test_a_stale_partition_fails_freshness_measured_at_the_given_time():
    assert outcomes(verify(frame(at=pd.Timestamp("2025-12-30"))))["checks.freshness"] == "failed"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("nowhere.duckdb::orders", "no such file"),
        ("nowhere.parquet", "no such file"),
        ("postgresql://postgres@127.0.0.1:9/test::orders", "postgresql"),
    ],
)
def test_data_that_cannot_be_reached_is_an_error_of_the_checker(data, says):
    result = verify(data)
    assert result.verdict is Verdict.ERROR
    assert not result.ok
    assert says in result.errors[0]


def test_a_missing_table_is_an_error_that_names_the_tables_there_are(tmp_path):
    with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
        con.execute("CREATE TABLE sales (a int)")
    result = verify(f"{tmp_path / 'w.duckdb'}::orders")
    assert result.verdict is Verdict.ERROR
    assert "there are: sales" in result.errors[0]


def test_a_file_that_is_not_what_it_says_is_an_error(tmp_path):
    (tmp_path / "x.parquet").write_text("not parquet")
    assert verify(tmp_path / "x.parquet").verdict is Verdict.ERROR


@pytest.mark.parametrize("data", [[1, 2], {"a": 1}, 7, "orders.xlsx"])
def test_a_wrong_kind_of_data_is_named(data):
    with pytest.raises(InvalidInputError, match="expected a data frame"):
        parse_dataset(data)


@pytest.mark.parametrize("expression", ["no_such_column > 1", "amount > 'text' + "])
def test_sql_that_does_not_run_fails_closed(expression):
    text = CONTRACT.replace("expression: amount > 1000", f'expression: "{expression}"')
    try:
        result = verify(frame(), text)
    except InvalidInputError:
        return
    assert not result.ok


def test_an_undeclared_variable_fails_closed():
    result = verify(frame(), CONTRACT.replace("dataset:", "filter: \"country = '${var.C}'\"\ndataset:", 1))
    assert result.verdict is Verdict.ERROR


def test_a_variable_selects_the_batch():
    text = "filter: \"country = '${var.C}'\"\nvariables: {C: {default: XX}}" + CONTRACT
    by_id = {c.id: c for c in verify(frame(), text, variables={"C": "FR"}).checks}
    assert by_id["columns.order_id.checks.missing"].rows_failed == 0
    assert by_id["columns.order_id.checks.duplicate"].rows.scope.startswith("(country = 'FR')")


def test_errors_logged_by_other_libraries_do_not_change_the_verdict():
    good = frame(order_id=[1.0, 2.0, 3.0, 4.0], amount=1.0, country="DE")
    stop = threading.Event()

    def shout():
        while not stop.is_set():
            logging.getLogger("elsewhere").error("unrelated")

    logging.getLogger("elsewhere").propagate = True
    thread = threading.Thread(target=shout)
    thread.start()
    try:
        assert verify(good).verdict is Verdict.PASSED
    finally:
        stop.set()
        thread.join()


def test_sixteen_threads_get_sixteen_right_answers():
    results: list[Verdict] = []
    good = frame(order_id=[1.0, 2.0, 3.0, 4.0], amount=1.0, country="DE")

    def work(data, expected):
        for _ in range(5):
            results.append(verify(data).verdict is expected)

    threads = [
        threading.Thread(target=work, args=(good, Verdict.PASSED) if i % 2 else (frame(), Verdict.FAILED))
        for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80


_ATTACKS = [
    "amount > (SELECT count(*) FROM read_csv('/etc/passwd'))",
    "1=1); DROP TABLE orders; --",
    "amount IN (SELECT a FROM secret_frame)",
]


@pytest.mark.parametrize("expression", _ATTACKS)
def test_hostile_sql_that_got_past_the_lint_is_harmless(tmp_path, expression):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as con:
        con.register("dirty", frame())
        con.execute("CREATE TABLE orders AS FROM dirty")
    secret_frame = pd.DataFrame({"a": [1]})
    assert len(secret_frame) == 1
    good = load_contract(CONTRACT)
    tree = yaml.safe_load(CONTRACT)
    tree["checks"][3]["failed_rows"]["expression"] = expression
    unlinted = Contract(source="attack", text=yaml.safe_dump(tree), dataset=good.dataset, tree=tree)
    for target in (f"{path}::orders", frame()):
        result = verify(target, unlinted)
        assert not result.ok
    with duckdb.connect(str(path), read_only=True) as con:
        assert con.execute("SELECT count(*), sum(amount) FROM orders").fetchone() == (4, 5060.0)


@pytest.mark.parametrize("first", ["", "SET default_transaction_read_only = off; ", "COMMIT; "])
def test_hostile_sql_cannot_write_to_postgres(first):
    psycopg = pytest.importorskip("psycopg")
    url, name = "postgresql://postgres@127.0.0.1:5432/test", f"orders_{uuid.uuid4().hex[:8]}"
    try:
        con = psycopg.connect(url, autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL on 127.0.0.1:5432")
    tree = yaml.safe_load(CONTRACT)
    tree["checks"][3]["failed_rows"]["expression"] = f"1=1); {first}DELETE FROM {name}; --"
    con.execute(f"CREATE TABLE {name} AS SELECT 1.0 order_id, 'DE' country, 1.0 amount, now()::timestamp AS at")
    try:
        contract = Contract(source="attack", text=yaml.safe_dump(tree), dataset="ds/main/orders", tree=tree)
        assert not verify(f"{url}::{name}", contract).ok
        assert con.execute(f"SELECT count(*) FROM {name}").fetchone() == (1,)
    finally:
        con.execute(f"DROP TABLE {name}")
        con.close()


def test_a_query_that_does_not_end_is_interrupted():
    text = CONTRACT.replace(
        "expression: amount > 1000", 'expression: "amount > (SELECT sum(a.range) FROM range(10000000000) a)"'
    )
    result = SodaChecker(timeout_s=0.3).verify(load_contract(text), parse_dataset(frame()), at_s=NOW_S)
    assert result.verdict is Verdict.ERROR


def test_verification_leaves_no_provider_no_environment_and_no_log_capture(tmp_path):
    (tmp_path / ".env").write_text("LEAKED_FROM_DOTENV=1\n")
    code = f"""
import os, sys
sys.path.insert(0, {str(os.getcwd())!r})
before = dict(os.environ)
import pandas as pd
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.domain.datasets import parse_dataset
contract = load_contract('''
dataset: ds/main/t
columns:
  - name: a
    checks: [{{missing: {{}}}}]
''')
result = SodaChecker().verify(contract, parse_dataset(pd.DataFrame({{'a': [1]}})))
assert result.ok, result
from opentelemetry import trace
print(type(trace.get_tracer_provider()).__name__)
print(sorted(set(os.environ) - set(before)))
"""
    env = {name: value for name, value in os.environ.items() if name != "SODA_CORE_TELEMETRY_ENABLED"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=env
    )
    provider, leaked = out.stdout.splitlines()[-2:]
    assert provider == "ProxyTracerProvider"
    assert leaked == "['SODA_CORE_TELEMETRY_ENABLED']"


@pytest.mark.parametrize("name", ["\\x24{env.PI_SECRET}", "${env.PI_SECRET}", "$ {env.PI_SECRET}", "${ENV.PI_SECRET}"])
def test_no_secret_of_the_environment_reaches_a_result(name, monkeypatch):
    monkeypatch.setenv("PI_SECRET", "hunter2")
    monkeypatch.setenv("ENV.PI_SECRET", "hunter2")
    text = CONTRACT.replace("name: Amount sane", f'name: "{name}"').replace("ds/main/orders", "ds/other/orders")
    try:
        told = str(verify(frame(), text))
    except InvalidInputError as error:
        told = str(error)
    assert "hunter2" not in told


def test_a_hostile_name_is_text_and_nothing_else(tmp_path):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as con:
        con.register("dirty", frame())
        con.execute("CREATE TABLE orders AS FROM dirty")
    name = "x'); DROP TABLE orders; --"
    text = CONTRACT.replace("name: Amount sane", f'name: "{name}"')
    by_id = {check.id: check for check in verify(f"{path}::orders", text).checks}
    assert by_id["checks.failed_rows.sane"].name == name
    with duckdb.connect(str(path), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM orders").fetchone() == (4,)


KEYED = """
dataset: ds/main/orders
checks:
  - failed_rows:
      name: Paid twice
      qualifier: paid
      QUERY: SELECT order_id, country FROM orders WHERE amount > 1000
      attributes: {KEYS remediation: quarantine}
columns:
  - name: order_id
  - name: country
"""


@pytest.mark.parametrize("form", ["query", "keys_query"])
@pytest.mark.parametrize("kind", ["frame", "duckdb", "parquet"])
def test_rows_that_a_query_names_by_key_are_set_aside(tmp_path, form, kind):
    whole = frame(order_id=[1.0, 2.0, 3.0, 4.0])
    data = whole
    if kind == "duckdb":
        with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
            con.execute("CREATE TABLE orders AS FROM whole")
        data = f"{tmp_path / 'w.duckdb'}::orders"
    elif kind == "parquet":
        whole.to_parquet(tmp_path / "orders.parquet")
        data = str(tmp_path / "orders.parquet")
    contract = load_contract(KEYED.replace("QUERY", form).replace("KEYS", "keys: [order_id, country],"))
    editor, policy = RowEditor(tmp_path / "q.duckdb"), RemediationPolicy(budget_percent=50)
    gate = Gate(checker=SodaChecker(), clock=SystemClock(), editor=editor, policy=policy)
    result = gate.run(contract, parse_dataset(data), run_id="r")
    assert result.outcome is GateOutcome.REMEDIED, result.log
    left = result.data.frame if kind == "frame" else None
    if kind == "parquet":
        left = pd.read_parquet(data)
    elif kind == "duckdb":
        with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as con:
            left = con.sql("FROM orders").df()
    assert sorted(left["order_id"]) == [1.0, 2.0, 3.0]


def test_without_keys_a_query_blocks(tmp_path):
    contract = load_contract(KEYED.replace("QUERY", "query").replace("KEYS", ""))
    editor = RowEditor(tmp_path / "q.duckdb")
    result = Gate(checker=SodaChecker(), clock=SystemClock(), editor=editor).run(
        contract, parse_dataset(frame()), run_id="r"
    )
    assert result.outcome is GateOutcome.BLOCKED
    assert "the failing rows are not known" in result.steps[0].reason


def test_rows_without_reference_are_set_aside(tmp_path):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE orders AS FROM (VALUES (1, 'DE'), (2, 'XX'), (3, NULL), (4, 'FR')) t(id, country)")
        con.execute("CREATE TABLE countries AS FROM (VALUES ('DE'), ('FR'), (NULL)) t(code)")
    text = """
dataset: w/main/orders
columns:
  - name: id
  - name: country
    checks:
      - invalid:
          valid_reference_data: {dataset: w/main/countries, column: code}
          attributes: {remediation: quarantine}
"""
    editor = RowEditor(tmp_path / "q.duckdb")
    gate = Gate(checker=SodaChecker(), clock=SystemClock(), editor=editor, policy=RemediationPolicy(budget_percent=50))
    result = gate.run(load_contract(text), parse_dataset(f"{path}::orders"), run_id="r")
    assert result.outcome is GateOutcome.REMEDIED, result.log
    with duckdb.connect(str(path), read_only=True) as con:
        assert con.sql("SELECT id FROM orders ORDER BY id").fetchall() == [(1,), (3,), (4,)]
        assert con.sql("SELECT id FROM orders__quarantine").fetchall() == [(2,)]


def test_an_empty_table_with_a_row_count_check_fails_as_bad_data():
    result = verify(frame().iloc[:0])
    assert result.verdict is Verdict.FAILED
    assert outcomes(result)["checks.row_count"] == "failed"


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"a": [{"x": 1}, {"x": 2}], "b": [[1], [2]]}),
        pa.table({"a": pa.array([1, 2], type=pa.time64("us")), "b": pa.array([1, 2], type=pa.duration("us"))}),
        pa.table({"a": [float("nan"), 1.0, float("inf")]}),
        pa.table({"a": pa.nulls(2), "b": [b"\xff", b"x"]}),
        pd.DataFrame({"a": ["it's", "${env.X}", '"q"', "a\nb", "", "010", "null", "NO", "\x07"]}),
        pd.DataFrame({"größe 漢字": [10**25, -1], "Order ID": [2**64 - 1, 0]}),
    ],
    ids=lambda data: str(type(data).__module__)[:6],
)
def test_the_contract_written_for_odd_data_passes_on_it(data):
    dataset = parse_dataset(data)
    contract = load_contract(new_contract(profile(dataset)))
    assert SodaChecker().verify(contract, dataset).verdict is Verdict.PASSED

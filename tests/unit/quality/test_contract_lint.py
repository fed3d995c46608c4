"""Contracts that Soda would accept in silence, or execute, are refused by name."""

import json
import time

import pytest

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.quality.adapters.contracts.lint import lint, load_contract
from prefect_intelligent.quality.adapters.contracts.sql import check_variables
from prefect_intelligent.quality.adapters.contracts.yaml import ContractError, canonical

GOOD = """
dataset: ds/main/orders
filter: "batch = '${var.BATCH}'"
variables: {BATCH: {default: '2026-01-01'}}
checks:
  - schema: {allow_extra_columns: true, attributes: {added: block}}
  - failed_rows: {name: Sane, qualifier: q1, expression: amount < 0}
  - metric: {name: avg ok, expression: AVG(amount), threshold: {must_be_between: {greater_than: 1, less_than: 9}}}
columns:
  - name: order_id
    data_type: bigint
    checks:
      - missing: {attributes: {severity: critical, remediation: quarantine, budget_percent: 2, team: web}}
      - duplicate: {attributes: {remediation: dedupe}}
  - name: amount
    checks:
      - invalid: {valid_min: 0, attributes: {remediation: clip, min: 0}}
"""


def findings(old: str, new: str) -> str:
    assert old in GOOD
    return "\n".join(str(finding) for finding in lint(GOOD.replace(old, new), "orders.yml"))


def test_a_good_contract_has_no_findings_and_tells_its_table_and_columns():
    contract = load_contract(GOOD)
    assert contract.table == "orders"
    assert contract.required_columns == (("order_id", "bigint"), ("amount", None))
    assert len(contract.hash) == 12


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("valid_min: 0", "valid_mn: 0", "did you mean 'valid_min'"),
        ("missing:", "mising:", "did you mean 'missing'"),
        ("- invalid:", "- nonsense:", "unknown check"),
        ("checks:\n  - schema", "checs:\n  - schema", "'checs' was unexpected"),
        ("severity: critical", "severty: critical", "did you mean 'severity'"),
        ("severity: critical", "severity: dire", "known: critical, major, minor"),
        ("remediation: dedupe", "remediation: dedup", "did you mean 'dedupe'"),
        ("remediation: clip, min: 0", "remediation: clip", "clip needs min or max"),
        ("remediation: clip, min: 0", "remediation: impute", "impute needs value or statistic"),
        ("remediation: clip, min: 0", "remediation: impute, statistic: avrage", "known: mean, median, mode"),
        ("remediation: clip, min: 0", "remediation: impute, value: [1]", "must be one value"),
        ("remediation: clip, min: 0", "remediation: clip, min: 5, max: 1", "must not be above max"),
        ("remediation: clip, min: 0", "remediation: cast, type: INT); DROP TABLE x", "must be an SQL type"),
        ("name: amount", "name: Order_ID", "stands twice"),
        ("budget_percent: 2", "budget_percent: 200", "from 0 to 100"),
        ("added: block", "added: explode", "observe, warn or block"),
        ("expression: amount < 0", "query: SELECT 1, attributes: {keys: []}", "columns that name one row"),
        ("expression: amount < 0", "query: SELECT 1, attributes: {keys: ['a\" b']}", "columns that name one row"),
        ("severity: critical", "keys: [a]", "on a failed_rows check with a query"),
        ("dataset: ds/main/orders", "dataset: orders", "must be data source/.../table"),
        ("dataset: ds/main/orders", "dataset:", "must name the dataset"),
        ("data_type: bigint", "data_type: bigint\n    data_type: text", "stands twice"),
        ("must_be_between", "must_be_betwen", "must_be_betwen"),
        (
            "{must_be_between: {greater_than: 1, less_than: 9}}",
            "{must_be_between: [1, 9]}",
            "threshold: {must_be_between: {greater_than_or_equal: 1, less_than_or_equal: 9}}",
        ),
        (
            "threshold: {must_be_between: {greater_than: 1, less_than: 9}}",
            "must_not_be_between: [1, 9]",
            "threshold: {must_be_not_between: {greater_than_or_equal: 1, less_than_or_equal: 9}}",
        ),
        ("threshold: {must_be_between: {greater_than: 1, less_than: 9}}", "must_be_between: [1]", "equal: LOW"),
    ],
)
def test_a_mistake_is_named_with_the_place_and_the_remedy(old, new, says):
    assert says in findings(old, new)


def test_checks_on_the_dataset_alone_need_no_columns():
    text = "dataset: ds/main/orders\nchecks:\n  - row_count: {threshold: {must_be_greater_than: 0}}\n"
    assert lint(text, "orders.yml") == []
    assert load_contract(text).required_columns == ()
    (finding,) = lint(text + "  - schema:\n", "orders.yml")
    assert "list them" in str(finding)


@pytest.mark.parametrize(
    "expression",
    [
        "1=1); DROP TABLE orders; --",
        "amount < 0; DELETE FROM orders",
        "amount < 0) UNION (SELECT 1",
        "amount > (SELECT count(*) FROM read_csv('/etc/passwd'))",
        "amount IN (SELECT size FROM read_text('/etc/passwd'))",
        "amount IN (SELECT a FROM '/etc/passwd')",
        "amount IN (SELECT a FROM 'https://example.com/x.parquet')",
        "getenv('HOME') = 'x'",
        "pg_read_file('/etc/passwd') = ''",
        "(DROP TABLE orders)",
        "amount < 0) OR (1=1",
        "amount < 0 -- comment",
        "amount < 0 /* comment */",
        "",
        "nextval('ids') > 0",
        "amount IN (SELECT usesysid FROM pg_catalog.pg_shadow)",
        "amount IN (SELECT 1 FROM information_schema.tables)",
        "amount IN (SELECT 1 FROM arrow_scan(1, 2, 3))",
        "amount IN (SELECT 1 FROM checkpoint())",
        "amount IN (SELECT 1 FROM query_to_xml('SELECT 1', true, true, ''))",
        "amount IN (SELECT amount FROM orders FOR UPDATE)",
        "amount < (SELECT amount INTO OUTFILE '/tmp/x' FROM orders)",
    ],
)
def test_sql_that_does_more_than_read_a_row_is_refused(expression):
    text = GOOD.replace("expression: amount < 0}", f"expression: {json.dumps(expression)}}}")
    assert text != GOOD
    assert lint(text, "orders.yml"), f"{expression} was accepted"


@pytest.mark.parametrize(
    "query",
    ["COPY orders TO '/tmp/x.csv'", "SELECT 1; SELECT 2", "ATTACH 'x.db'", "SELECT * FROM glob('/*')", "PRAGMA x"],
)
def test_a_query_check_may_only_select(query):
    text = GOOD.replace("expression: amount < 0}", f"query: {json.dumps(query)}}}")
    assert lint(text, "orders.yml"), f"{query} was accepted"


@pytest.mark.parametrize(
    "expression", ["amount < 0 OR country = ';'", "dep_delay > 24 * 60", "regexp_matches(name, '^[a-z]+$')"]
)
def test_plain_expressions_are_accepted(expression):
    text = GOOD.replace("expression: amount < 0}", f"expression: {json.dumps(expression)}}}")
    assert lint(text, "orders.yml") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty contract"),
        ("- a\n- b\n", "must be a mapping"),
        ("dataset: [", "must be valid YAML"),
        (GOOD.split("checks:")[0] + "columns:\n  - name: a\n", "without checks"),
        ("a: &x [1]\nb: *x\n", "anchor or alias"),
        ("a: &a [x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n", "anchor or alias"),
        ("? [a, b]\n: 1\n", "a key that is no text"),
        ("{ {a: 1}: 2 }", "a key that is no text"),
        ("dataset: !!python/object/apply:os.system [id]", "must be valid YAML"),
        (GOOD + "<<: {filter: amount = 1}\n", "'<<' was unexpected"),
        (GOOD.replace("valid_min: 0", "valid_min: .inf"), "must be finite"),
        (GOOD.replace("name: Sane", "name: !!binary U2FuZQ=="), "must be a text"),
        (GOOD.replace("name: Sane", 'name: "\\ud800"'), "control characters"),
        (GOOD.replace("name: Sane", 'name: "a\\0b"'), "control characters"),
        ("a: " + "[" * 5_000 + "]" * 5_000, "nesting"),
        ("a: " + "x" * 1_048_576, "a contract is a page or two"),
        (GOOD.replace("name: Sane", "name: ${env.SECRET}"), "environment variables could leak"),
        (GOOD.replace("name: Sane", "name: ${ env . SECRET}"), "environment variables could leak"),
        (GOOD.replace("name: Sane", 'name: "\\x24{env.SECRET}"'), "environment variables could leak"),
        (GOOD.replace("name: Sane", 'name: "\\u0024{ENV.SECRET}"'), "environment variables could leak"),
        (GOOD + "# ${env.SECRET}\n", "environment variables could leak"),
        (GOOD.replace("name: amount", "name: 'a\" ; DROP TABLE x; --'"), "may not hold quotes"),
        (GOOD.replace("ds/main/orders", "ds/main/o'; DROP"), "may not hold quotes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_hostile_or_empty_yaml_is_refused_quickly(text, says):
    began = time.process_time()
    found = lint(text, "c.yml")
    assert found
    assert says in str(found[0])
    assert len(str(found[0])) < 6_000
    assert time.process_time() - began < 20  # not exponential


def test_every_finding_is_reported_not_only_the_first():
    assert len(lint(GOOD.replace("severity: critical", "severty: x").replace("added: block", "added: no"), "c")) >= 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere\.yml"):
        load_contract(tmp_path / "nowhere.yml")


@pytest.mark.parametrize(
    "value", ["x' OR '1'='1", "1; DROP TABLE x", "a--b", "${env.HOME}", "/* */", "x" * 300, "a\nb"]
)
def test_a_variable_that_could_end_a_literal_is_refused(value):
    with pytest.raises(InvalidInputError, match="variable BATCH"):
        check_variables({"BATCH": value}, load_contract(GOOD).tree)


@pytest.mark.parametrize("value", ["2026-01-01T10:00:00+02:00", "EU west"])
def test_dates_and_words_are_fine_as_variables(value):
    assert check_variables({"BATCH": value}, load_contract(GOOD).tree) == {"BATCH": value}


def test_a_variable_that_the_contract_does_not_declare_is_named():
    with pytest.raises(UnknownNameError, match="BATCH"):
        check_variables({"BATHC": "x"}, load_contract(GOOD).tree)


@pytest.mark.parametrize("value", ["1 OR true", "amount", "NULL", ""])
def test_a_variable_outside_of_quotes_must_be_a_number(value):
    tree = load_contract(GOOD.replace("amount < 0", '"amount < ${var.BATCH}"').replace("'2026-01-01'", "0")).tree
    assert check_variables({"BATCH": "-1.5"}, tree) == {"BATCH": "-1.5"}
    with pytest.raises(InvalidInputError, match="must be a number where it is not in quotes"):
        check_variables({"BATCH": value}, tree)


def test_the_default_of_a_variable_is_held_to_the_same_rules():
    with pytest.raises(ContractError, match=r"variables.*may hold letters"):
        load_contract(GOOD.replace("'2026-01-01'", "\"x' OR '1'='1\""))


def test_yaml_means_what_soda_would_read():
    text = GOOD.replace("valid_min: 0", "valid_values: [NO, 010, 1:30, 2026-01-01, 0x1F, 1e3]")
    values = load_contract(text).tree["columns"][1]["checks"][0]["invalid"]["valid_values"]
    assert values == ["NO", 10, "1:30", "2026-01-01", 31, 1000.0]


def test_soda_is_given_what_was_linted_and_nothing_else():
    tree = load_contract(GOOD.replace("name: Sane", 'name: "ü \U0001f680 \\" \\n: {x}"')).tree
    assert json.loads(canonical(tree)) == tree

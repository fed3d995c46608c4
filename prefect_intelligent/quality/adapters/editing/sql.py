"""Builds the SQL of remediation: finding bad rows, moving them to quarantine, repairing values. No connection.

The statements work on DuckDB and PostgreSQL; what differs between them is in `SqlDialect`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.quality.adapters.sources.duckdb import literal, quoted
from prefect_intelligent.quality.model import CheckResult, FailingRows, RemediationAction, check_parameters

SUFFIX = "__quarantine"
BAD = "dq_bad"
UNTYPED = '"NULL"'
"""DuckDB's type of a column without any value."""
META = ("_dq_id", "_dq_reasons", "_dq_run_id", "_dq_at", "_dq_state")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlDialect:
    """What differs between the data sources.

    Attributes:
        row: Expression that identifies a row during a transaction.
        reasons: Template of a list without NULLs, with {items}.
        text: Name of the text type.
        statistics: Template of each statistic, with {column}.
        can_cast: Whether a failing cast can give NULL instead of an error.
        folds_case: Whether names that differ in case only are equal, even quoted.
    """

    row: str
    reasons: str
    text: str
    statistics: Mapping[str, str]
    can_cast: bool
    folds_case: bool = True


DUCKDB = SqlDialect(
    row="rowid",
    reasons="list_filter([{items}], lambda x: x IS NOT NULL)",
    text="VARCHAR",
    statistics={"median": "median({column})", "mean": "avg({column})", "mode": "mode({column})"},
    can_cast=True,
)
FRAME = SqlDialect(
    row="_dq_row",
    reasons=DUCKDB.reasons,
    text=DUCKDB.text,
    statistics=DUCKDB.statistics,
    can_cast=True,
)
POSTGRES = SqlDialect(
    row="ctid",
    reasons="array_remove(ARRAY[{items}]::text[], NULL)",
    text="text",
    statistics={
        "median": "percentile_cont(0.5) WITHIN GROUP (ORDER BY {column})",
        "mean": "avg({column})",
        "mode": "mode() WITHIN GROUP (ORDER BY {column})",
    },
    can_cast=False,
    folds_case=False,
)


def failing_condition(rows: FailingRows) -> str:
    """A condition that is true for the failing rows and false for all others, never NULL."""
    parts = [part for part in (rows.scope, rows.predicate) if part]
    return "coalesce(" + " AND ".join(f"({part})" for part in parts) + ", false)"


def find_bad(source: str, checks: Sequence[CheckResult], dialect: SqlDialect) -> str:
    """Create a temporary table of the rows whose values fail checks, with the ids of all checks they fail."""
    named = [(failing_condition(c.rows), literal(c.id)) for c in checks if c.rows is not None]
    items = ", ".join(f"CASE WHEN {condition} THEN {name} END" for condition, name in named)
    items = items or f"CAST(NULL AS {dialect.text})"
    where = " OR ".join(condition for condition, _ in named) or "false"
    return (
        f"CREATE TEMPORARY TABLE {BAD} AS SELECT {dialect.row} AS _dq_n, "
        f"{dialect.reasons.format(items=items)} AS _dq_why FROM {source} WHERE {where}"
    )


def add_duplicates(source: str, check: CheckResult, action: RemediationAction, dialect: SqlDialect) -> str:
    """Add duplicates to the bad rows: with DEDUPE all but the first row of each key, with QUARANTINE all of them.

    Rows that are bad already are not counted, so the row that is kept is a good one.
    """
    assert check.rows is not None
    keys = ", ".join(quoted(key) for key in check.rows.keys)
    where = f"WHERE coalesce({check.rows.scope}, false)" if check.rows.scope else ""
    same = " AND ".join(f"s.{quoted(k)} IS NOT DISTINCT FROM d.{quoted(k)}" for k in check.rows.keys)
    by = ", ".join(f"s.{quoted(key)}" for key in check.rows.keys)
    limit = "n > 1" if action is RemediationAction.DEDUPE else "copies > 1"
    return f"""
        INSERT INTO {BAD}
        SELECT _dq_n, {dialect.reasons.format(items=literal(check.id))} FROM (
            SELECT s._dq_n, row_number() OVER (PARTITION BY {by} ORDER BY s._dq_n) AS n,
                   count(*) OVER (PARTITION BY {by}) AS copies
            FROM (SELECT {dialect.row} AS _dq_n, {keys} FROM {source} {where}) s
            JOIN (SELECT {keys} FROM {source} {where} GROUP BY {keys} HAVING count(*) > 1) d ON {same}
            WHERE NOT EXISTS (SELECT 1 FROM {BAD} b WHERE b._dq_n = s._dq_n)
        ) copies WHERE {limit}"""


def count_reasons() -> str:
    """Count the bad rows by check id."""
    return f"SELECT reason, count(*) FROM (SELECT unnest(_dq_why) AS reason FROM {BAD}) r GROUP BY reason"


def create_quarantine(source: str, target: str, columns: Mapping[str, str], dialect: SqlDialect) -> str:
    """Create the quarantine table: the columns of the dataset, and the columns of `META`."""
    text = dialect.text
    plain = ", ".join(
        f"CAST({quoted(name)} AS {text}) AS {quoted(name)}" if kind == UNTYPED else quoted(name)
        for name, kind in columns.items()
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {target} AS SELECT {plain}, CAST(NULL AS {text}) AS _dq_id, "
        f"CAST(NULL AS {text}[]) AS _dq_reasons, CAST(NULL AS {text}) AS _dq_run_id, "
        f"CAST(NULL AS TIMESTAMP) AS _dq_at, CAST(NULL AS {text}) AS _dq_state FROM {source} WHERE false"
    )


def widen_quarantine(
    target: str, there: Mapping[str, str], columns: Mapping[str, str], dialect: SqlDialect
) -> tuple[list[str], set[str]]:
    """(statements, columns kept as text): adapt the quarantine table to the present columns without losing values.

    A column whose type has changed since the table was created becomes text; a new column is added.
    """
    fold = str.lower if dialect.folds_case else str
    known = {fold(name): (name, kind) for name, kind in there.items()}
    statements, texts = [], set()
    for name, kind in columns.items():
        existing, was = known.get(fold(name), ("", ""))
        if not existing:
            new = dialect.text if kind == UNTYPED else kind
            statements.append(f"ALTER TABLE {target} ADD COLUMN {quoted(name)} {new}")
        elif was != kind:
            texts.add(name)
            if was.lower() != dialect.text.lower():
                column = quoted(existing)
                using = f"USING CAST({column} AS {dialect.text})"
                statements.append(f"ALTER TABLE {target} ALTER COLUMN {column} TYPE {dialect.text} {using}")
    return statements, texts


def move_to_quarantine(
    source: str,
    target: str,
    columns: Mapping[str, str],
    dialect: SqlDialect,
    *,
    texts: Collection[str],
    run_id: str,
    at: str,
    state: str,
) -> list[str]:
    """Statements that copy the bad rows into quarantine, each row once per run, in whatever order rows are read.

    A row that the same run has quarantined before is not copied again; if it was released since, it is held again.
    """
    text = dialect.text
    plain = ", ".join(quoted(name) for name in columns)
    values = ", ".join(f"CAST({quoted(n)} AS {text})" if n in texts else quoted(n) for n in columns)
    whole = f"CAST(ROW({', '.join(f'_dq_s.{quoted(name)}' for name in columns)}) AS {text})"
    name = (
        f"md5({literal(run_id + ':' + state)} || ':' || "
        f"CAST(row_number() OVER (PARTITION BY {whole} ORDER BY b._dq_n) AS {text}) || ':' || {whole})"
    )
    named = (
        f"(SELECT {', '.join(f'_dq_s.{quoted(n)}' for n in columns)}, b._dq_why, {name} AS _dq_name "
        f"FROM {source} _dq_s JOIN {BAD} b ON _dq_s.{dialect.row} = b._dq_n) dq_named"
    )
    when = f"CAST({literal(at)} AS TIMESTAMP)"
    again = f"UPDATE {target} SET _dq_state = 'held', _dq_at = {when} WHERE _dq_state = 'released'"
    return [
        *([f"{again} AND _dq_id IN (SELECT _dq_name FROM {named})"] if state == "held" else []),
        f"""
        INSERT INTO {target} ({plain}, {", ".join(META)})
        SELECT {values}, _dq_name, _dq_why, {literal(run_id)}, {when}, {literal(state)} FROM {named}
        WHERE NOT EXISTS (SELECT 1 FROM {target} q WHERE q._dq_id = dq_named._dq_name)""",
    ]


def repair(source: str, check: CheckResult, action: RemediationAction, dialect: SqlDialect) -> tuple[str, str]:
    """(column, expression) of the value that replaces a failing one.

    Raises:
        InvalidInputError: The parameters of the action cannot be used on this data source.
    """
    assert check.rows is not None
    assert check.column is not None
    column, given = quoted(check.column), check.parameters
    if action is RemediationAction.IMPUTE and "statistic" in given:
        pattern = dialect.statistics.get(str(given["statistic"]))
        if pattern is None:
            raise InvalidInputError(
                f"statistic of {check.id}", given["statistic"], f"known: {', '.join(dialect.statistics)}"
            )
        good = f"SELECT {pattern.format(column=column)} FROM {source} WHERE NOT {failing_condition(check.rows)}"
        return column, f"({good})"
    if action is RemediationAction.IMPUTE:
        return column, sql_value(given["value"])
    if action is RemediationAction.CLIP:
        expression = column
        if "min" in given:
            expression = f"greatest({expression}, {sql_value(given['min'])})"
        if "max" in given:
            expression = f"least({expression}, {sql_value(given['max'])})"
        return column, expression
    kind = str(given["type"])
    check_parameters(action, given, check.id)  # goes into SQL, and the contract may not have been linted
    if not dialect.can_cast:
        raise InvalidInputError(f"remediation of {check.id}", "cast", "works on DuckDB data only")
    return column, f"TRY_CAST({column} AS {kind})"


def sql_value(given: Any) -> str:
    """A value of the contract as an SQL literal."""
    if given is None:
        return "NULL"
    if isinstance(given, bool):
        return "true" if given else "false"
    return repr(given) if isinstance(given, int | float) else literal(str(given))

"""Checks the SQL of a contract: read-only expressions or queries about the dataset, and safe variables in them.

Soda inserts expressions, filters, queries and the values of variables into its statements unchecked. Here they are
parsed first. The connections are read-only as a second line of defence (`sources.duckdb`, `sources.postgres`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prefect_intelligent.errors import InvalidInputError, UnknownNameError

_EXPRESSIONS, _QUERIES = ("expression", "filter"), ("query", "rows_tested_query", "keys_query")
_VARIABLE = re.compile(r"\$\{\s*(var|soda)\.(\w+)\s*\}")
_SAFE_VALUE = re.compile(r"[\w .:+/@%-]{0,200}")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_TEXT = re.compile(r"'(?:[^']|'')*'")
_FORBIDDEN_FUNCTIONS = re.compile(
    r"^(read_|parquet_|sniff_csv|glob$|getenv|getvariable|pg_|lo_|dblink|copy|query$|query_table|sqlite_|postgres_"
    r"|mysql_|iceberg_|delta_|st_read|load_|current_setting|set_config|duckdb_|pragma_|which_secret|write_|system|shell"
    r"|python_|nextval|setval|currval|lastval|txid_|json_execute|from_substrait|checkpoint|force_checkpoint"
    r"|\w+_to_xml)",
    re.IGNORECASE,
)
_TABLE_FUNCTIONS = {
    "range",
    "generate_series",
    "unnest",
    "json_each",
    "jsonb_each",
    "string_split",
    "regexp_split_to_table",
}
_SYSTEM = re.compile(r"^(pg_|duckdb_|sqlite_|information_schema$|system$)", re.IGNORECASE)


def check_variables(variables: Mapping[str, str] | None, tree: Mapping[str, Any]) -> dict[str, str]:
    """The given variables as texts, checked to be safe in the SQL of a contract.

    Args:
        variables: Values given by the caller.
        tree: The contract; its defaults must be safe too.

    Raises:
        UnknownNameError: The contract declares no variable of that name.
        InvalidInputError: A value could end an SQL literal, or is used outside of quotes and is not a number.
    """
    given = {str(name): str(value) for name, value in (variables or {}).items()}
    declared = tree.get("variables") or {}
    for name in given:
        if name not in declared:
            raise UnknownNameError("variable of the contract", name, sorted(declared))
    defaults = {
        name: str(body["default"])
        for name, body in declared.items()
        if name not in given and isinstance(body, Mapping) and body.get("default") is not None
    }
    bare = set(_bare_variables(tree))
    for name, value in (defaults | given).items():
        # "--" begins a comment in SQL
        if not _SAFE_VALUE.fullmatch(value) or "--" in value or "/*" in value:
            raise InvalidInputError(
                f"variable {name}", value, "may hold letters, digits, space and . : + / @ % - _ (it is pasted into SQL)"
            )
        if name in bare and not _NUMBER.fullmatch(value):
            raise InvalidInputError(
                f"variable {name}",
                value,
                f"must be a number where it is not in quotes; write '${{var.{name}}}' for text",
            )
    return given


def _bare_variables(tree: Mapping[str, Any]) -> Iterator[str]:
    """Variables that are used in SQL outside of quotes."""
    for _, sql, _ in _statements(tree, ""):
        for space, name in _VARIABLE.findall(_TEXT.sub("''", sql)):
            if space == "var":
                yield name


def find_unsafe_sql(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(place, SQL, problem) of everything in a contract that does more than read its dataset."""
    for place, sql, expression in _statements(tree, ""):
        problem = _problem(sql, expression=expression)
        if problem:
            yield place, sql, problem


def _statements(node: Any, path: str) -> Iterator[tuple[str, str, bool]]:
    """(place, SQL, whether it is an expression) of all SQL in the contract."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            place = f"{path}.{key}".lstrip(".")
            if key in (*_EXPRESSIONS, *_QUERIES) and isinstance(value, str):
                yield place, value, key in _EXPRESSIONS
            elif key != "attributes":
                yield from _statements(value, place)
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from _statements(item, f"{path}[{i}]")


def _problem(sql: str, *, expression: bool) -> str:
    """Why the SQL is refused; "" if it is not."""
    import sqlglot
    from sqlglot import exp

    plain = _VARIABLE.sub("1", sql)
    wanted = "must be one boolean or aggregate expression" if expression else "must be one SELECT"
    try:
        if expression and any(token.comments for token in sqlglot.tokenize(f"{plain}\n", dialect="duckdb")):
            return "an expression may hold no comment (it is pasted into a longer statement)"
        text = f"SELECT 1 WHERE (\n{plain}\n)" if expression else plain
        statements = [s for s in sqlglot.parse(text, dialect="duckdb") if s is not None]
    except (sqlglot.errors.SqlglotError, RecursionError) as exc:
        return f"{wanted}: {(str(exc).splitlines() or [type(exc).__name__])[0]}"
    root = statements[0] if len(statements) == 1 else None
    if not isinstance(root, exp.Query):
        return wanted
    if expression:
        used = {name for name, value in root.args.items() if value}
        # "a) OR (b" parses too, but would close the brackets that Soda puts around it.
        if not (used <= {"expressions", "where", "kind"} and isinstance(root.args["where"].this, exp.Paren)):
            return wanted
    return next(filter(None, map(_refusal, root.walk())), "")


def _refusal(node: Any) -> str:
    """Why a part of a statement does more than read the dataset; "" if it does not."""
    from sqlglot import exp

    writes = exp.DDL | exp.DML | exp.Drop | exp.Command | exp.Copy | exp.Attach | exp.Set | exp.Pragma | exp.Alter
    if isinstance(node, writes | exp.Into | exp.Lock):
        return "a contract may only read"
    name = _function(node)
    if name and _FORBIDDEN_FUNCTIONS.match(name):
        return f"function {name} reaches outside the dataset"
    if isinstance(node, exp.Table):
        called = _function(node.this)
        if called and called.lower() not in _TABLE_FUNCTIONS:
            return f"function {called} reaches outside the dataset"
        if re.search(r"[./\\:*]", node.name):
            return f"{node.name!r} reads a file, not the dataset"
        if _SYSTEM.match(node.name) or _SYSTEM.match(node.db) or _SYSTEM.match(node.catalog):
            return f"{node.name!r} belongs to the database's own catalogue"
    return ""


def _function(node: Any) -> str:
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return str(node.name)
    return str(node.sql_name()) if isinstance(node, exp.Func) else ""

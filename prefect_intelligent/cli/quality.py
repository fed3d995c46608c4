"""`prefect-intelligent quality`: check and profile data, write and lint contracts, look at and release bad rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Output, add, print_json, read_settings, subcommands
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.errors import InvalidInputError

Data = Annotated[str, Parameter(name="DATA", help="FILE.parquet, FILE.csv, FILE.duckdb::TABLE or postgresql://...::T")]
Limit = Annotated[Int, Parameter(name="--limit", metavar="LIMIT", help="how many (default 20)")]
RunId = Annotated[str | None, Parameter(name="--run-id", metavar="ID", help="only rows of this run")]

command = subcommands("quality")


@add(command, "check", "verify data against a contract; exit 1 if it may not be used")
def _check(
    contract: Annotated[str, Parameter(name="CONTRACT", help="YAML file of a Soda data contract")],
    data: Data,
    /,
    *,
    var: Annotated[tuple[str, ...], Parameter(metavar="NAME=VALUE", help="variable of the contract")] = (),
    remedy: Annotated[bool, Parameter(help="act on failures as the contract says, then check again")] = False,
    dry_run: Annotated[bool, Parameter(help="with --remedy: say what would be done")] = False,
    budget_percent: Annotated[
        float, Parameter(metavar="BUDGET_PERCENT", help="most rows to quarantine (default: 5)")
    ] = 5.0,
    downstream: Annotated[
        tuple[str, ...], Parameter(metavar="FLOW/DEPLOYMENT", help="hold it while the data is bad")
    ] = (),
    run_id: Annotated[
        str | None,
        Parameter(metavar="ID", help="name of this attempt; with the same id nothing is done twice"),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> int:
    from dataclasses import replace

    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.quality.remediation import RemediationPolicy
    from prefect_intelligent.wiring.quality import check_deployments, load_contract, quality_parts

    agreed, dataset = load_contract(contract), parse_dataset(data)
    if downstream:
        check_deployments(downstream)
    policy = RemediationPolicy(budget_percent=budget_percent, downstream=downstream)
    parts = quality_parts(policy, settings=read_settings(config).settings, prefect=bool(downstream))
    gate = parts.gate if remedy else replace(parts.gate, editor=None, downstream=None)
    attempt = run_id or str(uuid4())
    result = gate.run(agreed, dataset, run_id=attempt, variables=_pairs("--var", var), dry_run=dry_run and remedy)
    record = result.to_record(attempt, result.first.started_s)
    if not dry_run:
        parts.spool.append("quality", record)
    if as_json:
        print_json(record)
    else:
        _print_checks(result.first)
        for step in result.steps:
            print(f"{step.action}: {step.check or result.first.dataset} ({step.reason})")
        for line in (*result.log, *(f"unusual: {text}" for text in result.unusual)):
            print(line)
        print(result.sentence())
    return 0 if result.usable else 1


def _print_checks(verification: Any) -> None:
    _table(
        ("outcome", "check", "column", "value", "threshold", "rows failed"),
        [
            (
                str(c.outcome),
                c.name if c.name != c.id else c.kind,
                c.column or "",
                "" if c.value is None else f"{c.value:g}",
                c.threshold,
                "" if c.rows_failed is None else str(c.rows_failed),
            )
            for c in verification.checks
        ],
    )


@add(command, "profile", "what each column of a dataset holds")
def _profile(data: Data, /, *, as_json: Json = False) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import profile_dataset

    found = profile_dataset(parse_dataset(data))
    if as_json:
        print_json({"table": found.table, "rows": found.rows, "columns": [c.to_record() for c in found.columns]})
        return 0
    print(f"{found.table}: {found.rows} rows")
    _table(
        ("column", "type", "missing", "distinct", "from", "to"),
        [(c.name, c.type, str(c.missing), str(c.distinct), c.low or "", c.high or "") for c in found.columns],
    )
    return 0


contracts = subcommands("contract", "write contracts", of=command)


@add(contracts, "new", "profile a dataset and write a contract that passes on it")
def _new_contract(
    data: Data,
    /,
    *,
    output: Annotated[
        str | None, Parameter(name=["-o", "--output"], metavar="FILE", help="where to write it; printed without")
    ] = None,
    force: Annotated[bool, Parameter(help="replace the file")] = False,
) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import draft_contract

    dataset = parse_dataset(data)
    if output and Path(output).exists() and not force:
        raise InvalidInputError("--output", output, "exists already; --force replaces it")
    text = draft_contract(dataset)
    if output:
        Path(output).write_text(text)
        print(f"wrote {output}")
    else:
        print(text, end="")
    return 0


@add(command, "lint", "find mistakes in contracts that Soda would ignore; exit 1 on a finding")
def _lint(
    paths: Annotated[list[str], Parameter(name="CONTRACT", help="YAML file; several may follow")],
    /,
    *,
    as_json: Json = False,
    output: Output = None,
) -> int:
    from prefect_intelligent.wiring.quality import lint_contract

    by_path = {path: lint_contract(path) for path in paths}
    found = [finding for findings in by_path.values() for finding in findings]
    if as_json:
        print_json({"findings": found})
    elif output == "github":
        from prefect_intelligent.cli.formatting import annotation

        for path, findings in by_path.items():
            for finding in findings:
                print(annotation(finding, title="data contract", file=path))
    else:
        print("\n".join(found) if found else f"{len(paths)} contracts, no findings")
    return 1 if found else 0


@add(command, "history", "past results and what was done, newest first")
def _history(
    dataset: Annotated[str | None, Parameter(name="DATASET", help="as named in the contract")] = None,
    /,
    *,
    limit: Limit = 20,
    as_json: Json = False,
    config: Config = None,
) -> int:

    from prefect_intelligent.quality.past_results import past_results
    from prefect_intelligent.wiring.history import open_history

    store = open_history(read_settings(config).settings)
    records = past_results(store, dataset, last=max(1, limit))[::-1]
    if as_json:
        print_json({"results": records})
        return 0
    _table(
        ("when (UTC)", "dataset", "outcome", "quarantined", "repaired", "what was done"),
        [
            (
                utc(r["at_s"]).strftime("%Y-%m-%d %H:%M:%S"),
                r["dataset"],
                r["outcome"],
                str(r["quarantined"]),
                str(r["repaired"]),
                "; ".join([*r["log"], *(f"unusual: {u}" for u in r["unusual"])]),
            )
            for r in records
        ],
    )
    return 0


@add(command, "unblock", "release the deployments that a dataset holds")
def _unblock(
    dataset: Annotated[str, Parameter(name="DATASET", help="as named in the contract")], /, *, as_json: Json = False
) -> int:
    from prefect_intelligent.wiring.quality import release_deployments

    released = release_deployments(dataset)
    if as_json:
        print_json({"released": list(released)})
    else:
        print(f"released: {', '.join(released)}" if released else f"{dataset} holds nothing")
    return 0


quarantine = subcommands("quarantine", "bad rows that were set aside", of=command)


@add(quarantine, "list", "how many rows, by run and reason")
def _list(data: Data, /, *, as_json: Json = False) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import quarantined_batches

    found = quarantined_batches(parse_dataset(data))
    if as_json:
        print_json({"batches": [batch.to_record() for batch in found]})
        return 0
    _table(
        ("when (UTC)", "table", "run", "state", "rows", "failed checks"),
        [(b.at, b.table, b.run_id, b.state, str(b.rows), ", ".join(b.reasons)) for b in found],
    )
    return 0


@add(quarantine, "show", "the rows themselves")
def _show(
    data: Data,
    /,
    *,
    run_id: RunId = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import quarantined_rows

    columns, found = quarantined_rows(parse_dataset(data), run_id=run_id, limit=limit)
    if as_json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in found]})
        return 0
    _table(columns, [["" if v is None else str(v) for v in row] for row in found])
    return 0


@add(quarantine, "release", "put rows back")
def _release(
    data: Data,
    /,
    *,
    run_id: RunId = None,
    ids: Annotated[
        tuple[str, ...], Parameter(name="--id", metavar="ID", help="only this row (_dq_id); may repeat")
    ] = (),
    corrections: Annotated[
        tuple[str, ...], Parameter(name="--set", metavar="COLUMN=VALUE", help="correct a value first")
    ] = (),
    contract: Annotated[
        str | None,
        Parameter(metavar="CONTRACT", help="check the dataset afterwards; bad rows go back again"),
    ] = None,
    dry_run: Annotated[bool, Parameter(help="count only")] = False,
    as_json: Json = False,
    config: Config = None,
) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import load_contract, quality_parts, release_rows

    dataset = parse_dataset(data)
    count = release_rows(dataset, ids=ids, run_id=run_id, corrections=_pairs("--set", corrections), dry_run=dry_run)
    checked = None
    if contract and not dry_run:
        parts = quality_parts(settings=read_settings(config).settings, prefect=False)
        checked = parts.gate.run(load_contract(contract), dataset, run_id=f"release-{uuid4()}")
    if as_json:
        print_json({"released": count, "dry_run": dry_run, "outcome": str(checked.outcome) if checked else None})
    else:
        print(f"{count} rows {'would go' if dry_run else 'went'} back to {dataset}")
        if checked:
            print(checked.sentence())
    return 0 if checked is None or checked.usable else 1


def _pairs(option: str, words: Iterable[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInputError(option, word, "expected NAME=VALUE")
        found[name] = value
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Values of rows; long ones are cut, which shows."""
    from prefect_intelligent.cli.tables import print_table

    def cell(value: str) -> str:
        line = str(value).replace("\n", " ")
        return line if len(line) <= _LONGEST_CELL else f"{line[:_LONGEST_CELL]}..."

    print_table([dict(zip(head, map(cell, row), strict=True)) for row in rows])
    if not rows:
        print("none")


_LONGEST_CELL = 400

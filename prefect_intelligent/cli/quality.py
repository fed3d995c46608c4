"""`prefect-intelligent quality`: check and profile data, write and lint contracts, look at and release bad rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings
from prefect_intelligent.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    check = verbs.add_parser("check", help="verify data against a contract; exit 1 if it may not be used")
    check.add_argument("contract", metavar="CONTRACT", help="YAML file of a Soda data contract")
    check.add_argument("data", metavar="DATA", help="FILE.parquet, FILE.csv, FILE.duckdb::TABLE or postgresql://...::T")
    check.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="variable of the contract")
    check.add_argument("--remedy", action="store_true", help="act on failures as the contract says, then check again")
    check.add_argument("--dry-run", action="store_true", help="with --remedy: say what would be done")
    check.add_argument("--budget-percent", type=float, default=5.0, help="most rows to quarantine (default: 5)")
    check.add_argument(
        "--downstream", action="append", default=[], metavar="FLOW/DEPLOYMENT", help="hold it while the data is bad"
    )
    check.add_argument("--run-id", metavar="ID", help="name of this attempt; with the same id nothing is done twice")

    profile = verbs.add_parser("profile", help="what each column of a dataset holds")
    profile.add_argument("data", metavar="DATA")

    contract = verbs.add_parser("contract", help="write contracts")
    made = contract.add_subparsers(dest="what", metavar="new", required=True)
    new = made.add_parser("new", help="profile a dataset and write a contract that passes on it")
    new.add_argument("data", metavar="DATA")
    new.add_argument("-o", "--output", metavar="FILE", help="where to write it; printed without")
    new.add_argument("--force", action="store_true", help="replace the file")

    lint = verbs.add_parser("lint", help="find mistakes in contracts that Soda would ignore; exit 1 on a finding")
    lint.add_argument("contracts", metavar="CONTRACT", nargs="+")

    history = verbs.add_parser("history", help="past results and what was done, newest first")
    history.add_argument("dataset", metavar="DATASET", nargs="?", help="as named in the contract")
    history.add_argument("--limit", type=int, default=20)

    unblock = verbs.add_parser("unblock", help="release the deployments that a dataset holds")
    unblock.add_argument("dataset", metavar="DATASET", help="as named in the contract")

    rows = verbs.add_parser("quarantine", help="bad rows that were set aside")
    doing = rows.add_subparsers(dest="what", metavar="list|show|release", required=True)
    listing = doing.add_parser("list", help="how many rows, by run and reason")
    show = doing.add_parser("show", help="the rows themselves")
    release = doing.add_parser("release", help="put rows back")
    for sub in (listing, show, release):
        sub.add_argument("data", metavar="DATA")
    for sub in (show, release):
        sub.add_argument("--run-id", metavar="ID", help="only rows of this run")
    show.add_argument("--limit", type=int, default=20)
    release.add_argument("--id", action="append", default=[], metavar="ID", help="only this row (_dq_id); may repeat")
    release.add_argument("--set", action="append", default=[], metavar="COLUMN=VALUE", help="correct a value first")
    release.add_argument("--contract", metavar="CONTRACT", help="check the dataset afterwards; bad rows go back again")
    release.add_argument("--dry-run", action="store_true", help="count only")
    for sub in (check, profile, history, listing, show, release, lint, unblock):
        add_json(sub)
    for sub in (check, history, release):
        add_config(sub)


def run(args: argparse.Namespace) -> int:
    """Dispatch to the verb."""
    names = {"contract": _new_contract, "check": _check, "profile": _profile, "lint": _lint, "history": _history}
    if args.verb == "quarantine":
        return {"list": _list, "show": _show, "release": _release}[args.what](args)
    return _unblock(args) if args.verb == "unblock" else names[args.verb](args)


def _check(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.quality.remediation import RemediationPolicy
    from prefect_intelligent.wiring.quality import load_contract, quality_parts

    contract, dataset = load_contract(args.contract), parse_dataset(args.data)
    policy = RemediationPolicy(budget_percent=args.budget_percent, downstream=tuple(args.downstream))
    parts = quality_parts(policy, settings=read_settings(args).settings, prefect=bool(args.downstream))
    gate = parts.gate if args.remedy else replace(parts.gate, editor=None, downstream=None)
    run_id = args.run_id or str(uuid4())
    result = gate.run(
        contract, dataset, run_id=run_id, variables=_pairs("--var", args.var), dry_run=args.dry_run and args.remedy
    )
    if not args.dry_run:
        parts.spool.append("quality", result.to_record(run_id, result.first.started_s))
    if args.json:
        print_json(result.to_record(run_id, result.first.started_s))
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


def _profile(args: argparse.Namespace) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import profile_dataset

    found = profile_dataset(parse_dataset(args.data))
    if args.json:
        print_json({"table": found.table, "rows": found.rows, "columns": [c.to_record() for c in found.columns]})
        return 0
    print(f"{found.table}: {found.rows} rows")
    _table(
        ("column", "type", "missing", "distinct", "from", "to"),
        [(c.name, c.type, str(c.missing), str(c.distinct), c.low or "", c.high or "") for c in found.columns],
    )
    return 0


def _new_contract(args: argparse.Namespace) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import draft_contract

    dataset = parse_dataset(args.data)
    if args.output and Path(args.output).exists() and not args.force:
        raise InvalidInputError("--output", args.output, "exists already; --force replaces it")
    text = draft_contract(dataset)
    if args.output:
        Path(args.output).write_text(text)
        print(f"wrote {args.output}")
    else:
        print(text, end="")
    return 0


def _lint(args: argparse.Namespace) -> int:
    from prefect_intelligent.wiring.quality import lint_contract

    found = [finding for path in args.contracts for finding in lint_contract(path)]
    if args.json:
        print_json({"findings": found})
    else:
        print("\n".join(found) if found else f"{len(args.contracts)} contracts, no findings")
    return 1 if found else 0


def _history(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from prefect_intelligent.quality.past_results import past_results
    from prefect_intelligent.wiring.history import open_history

    store = open_history(read_settings(args).settings)
    records = past_results(store, args.dataset, last=max(1, args.limit))[::-1]
    if args.json:
        print_json({"results": records})
        return 0
    _table(
        ("when (UTC)", "dataset", "outcome", "quarantined", "repaired", "what was done"),
        [
            (
                datetime.fromtimestamp(r["at_s"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
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


def _unblock(args: argparse.Namespace) -> int:
    from prefect_intelligent.wiring.quality import release_deployments

    released = release_deployments(args.dataset)
    if args.json:
        print_json({"released": list(released)})
    else:
        print(f"released: {', '.join(released)}" if released else f"{args.dataset} holds nothing")
    return 0


def _list(args: argparse.Namespace) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import quarantined_batches

    found = quarantined_batches(parse_dataset(args.data))
    if args.json:
        print_json({"batches": [batch.to_record() for batch in found]})
        return 0
    _table(
        ("when (UTC)", "table", "run", "state", "rows", "failed checks"),
        [(b.at, b.table, b.run_id, b.state, str(b.rows), ", ".join(b.reasons)) for b in found],
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import quarantined_rows

    columns, found = quarantined_rows(parse_dataset(args.data), run_id=args.run_id, limit=args.limit)
    if args.json:
        print_json({"rows": [dict(zip(columns, row, strict=True)) for row in found]})
        return 0
    _table(columns, [["" if v is None else str(v) for v in row] for row in found])
    return 0


def _release(args: argparse.Namespace) -> int:
    from prefect_intelligent.domain.datasets import parse_dataset
    from prefect_intelligent.wiring.quality import load_contract, quality_parts, release_rows

    dataset = parse_dataset(args.data)
    count = release_rows(
        dataset, ids=args.id, run_id=args.run_id, corrections=_pairs("--set", args.set), dry_run=args.dry_run
    )
    checked = None
    if args.contract and not args.dry_run:
        parts = quality_parts(settings=read_settings(args).settings, prefect=False)
        checked = parts.gate.run(load_contract(args.contract), dataset, run_id=f"release-{uuid4()}")
    if args.json:
        print_json({"released": count, "dry_run": args.dry_run, "outcome": str(checked.outcome) if checked else None})
    else:
        print(f"{count} rows {'would go' if args.dry_run else 'went'} back to {dataset}")
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
    """Aligned columns; wide ones are cut unless the output is piped."""
    cut = 60 if sys.stdout.isatty() else 400
    lines = [tuple(str(cell).replace("\n", " ")[:cut] for cell in row) for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

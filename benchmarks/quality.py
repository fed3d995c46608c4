"""Overhead of the quality gate: `python -m benchmarks.quality --json`.

One table of a million rows, fifteen checks, one process:

* the gate (lint, locked connection, verification, ladder, history) against plain Soda on the same contract and frame;
* the gate against pandera with the same fifteen checks on the same frame;
* verify, quarantine and verify again against one verification, on frames in which 0.1 % of the rows are bad.

Rounds alternate between the two, and each figure is the ratio of their fastest rounds: other load on the machine makes
a round slower, never faster.
"""

from __future__ import annotations

import argparse
import contextvars
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"SODA_CORE_TELEMETRY_ENABLED": "false", "DISABLE_PANDERA_IMPORT_WARNING": "True"}

import duckdb
import numpy as np
import pandas as pd

from prefect_intelligent.domain.datasets import parse_dataset
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.editing.editor import RowEditor
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.quality.gate import Gate, GateOutcome

COUNTRIES = ["DE", "FR", "US", "IT", "ES"]
CONTRACT = """
dataset: ds/main/orders
checks:
  - schema: {}
  - row_count: {threshold: {must_be_greater_than: 1000}}
  - failed_rows: {name: net below gross, qualifier: net, expression: net > gross}
columns:
  - name: order_id
    checks: [{missing: {}}, {duplicate: {}}, {invalid: {valid_min: 0}}]
  - name: country
    checks: [{missing: {}}, {invalid: {valid_values: [DE, FR, US, IT, ES]}}]
  - name: email
    checks:
      - missing: {}
      - invalid: {valid_format: {name: mail, regex: '^[a-z0-9]+@[a-z]+[.]com$'}}
  - name: gross
    checks:
      - missing: {}
      - invalid: {valid_min: 0, valid_max: 10000}
      - aggregate: {function: avg, threshold: {must_be_between: {greater_than: 1, less_than: 9999}}}
  - name: net
    checks: [{missing: {}}, {invalid: {valid_min: 0}}]
"""
CHECKS = 15


def make_frame(rows: int, bad: int = 0, seed: int = 11) -> pd.DataFrame:
    """Orders; the first `bad` rows drawn have an impossible price."""
    rng = np.random.default_rng(seed)
    gross = rng.random(rows) * 9_000 + 10
    if bad:
        gross[rng.choice(rows, bad, replace=False)] = 50_000.0
    return pd.DataFrame(
        {
            "order_id": np.arange(rows, dtype=np.int64),
            "country": rng.choice(COUNTRIES, rows),
            "email": [f"u{i}@example.com" for i in range(rows)],
            "gross": gross,
            "net": gross * 0.8,
        }
    )


def bare_soda(frame: pd.DataFrame) -> None:
    """Soda as its own documentation would have it, telemetry off."""
    from soda_core.common.yaml import ContractYamlSource
    from soda_core.contracts.contract_verification import ContractVerificationSession
    from soda_duckdb.common.data_sources.duckdb_data_source import DuckDBDataSourceImpl

    con = duckdb.connect()
    con.register("orders", frame)
    source = DuckDBDataSourceImpl.from_existing_cursor(con, name="ds")
    result = contextvars.copy_context().run(
        ContractVerificationSession.execute,
        contract_yaml_sources=[ContractYamlSource.from_str(CONTRACT)],
        data_source_impls=[source],
    )
    con.close()
    if not result.is_ok or len(result.contract_verification_results[0].check_results) != CHECKS:
        raise RuntimeError("bare Soda did not pass its fifteen checks")


def pandera_check() -> Callable[[pd.DataFrame], None]:
    """The same fifteen checks in pandera, all findings collected (lazy), as a gate would want them."""
    import pandera.pandas as pa

    column, check = pa.Column, pa.Check
    schema = pa.DataFrameSchema(
        {
            "order_id": column("int64", check.ge(0), nullable=False, unique=True),
            "country": column(str, check.isin(COUNTRIES), nullable=False),
            "email": column(str, check.str_matches(r"^[a-z0-9]+@[a-z]+[.]com$"), nullable=False),
            "gross": column(
                "float64", [check.in_range(0, 10_000), check(lambda s: 1 < s.mean() < 9_999)], nullable=False
            ),
            "net": column("float64", check.ge(0), nullable=False),
        },
        checks=[check(lambda f: f["net"] <= f["gross"]), check(lambda f: len(f) > 1000)],
        strict=True,
    )

    def run(frame: pd.DataFrame) -> None:
        schema.validate(frame, lazy=True)

    return run


def compare(rivals: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Fewest seconds of each, in alternating rounds after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name, call in rivals.items():
            began = time.perf_counter()
            call()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in taken.items()}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    frame = make_frame(args.rows)
    dirty = make_frame(args.rows, bad=args.rows // 1000)
    contract, checker = load_contract(CONTRACT), SodaChecker()
    with tempfile.TemporaryDirectory() as folder:
        history = open_history(f"sqlite:///{folder}/history.db")
        editor = RowEditor(Path(folder) / "quarantine.duckdb")
        gate = Gate(checker=checker, clock=SystemClock(), editor=editor, history=history)
        number = iter(range(1_000_000))

        def run_gate(data: pd.DataFrame, expected: GateOutcome) -> None:
            loaded = load_contract(CONTRACT)  # a flow lints its contract every time
            result = gate.run(loaded, parse_dataset(data), run_id=str(next(number)))
            if result.outcome is not expected:
                raise RuntimeError(f"the gate says {result.sentence()}")

        pandera = pandera_check()
        rivals: dict[str, Callable[[], None]] = {
            "gate": lambda: run_gate(frame, GateOutcome.PASSED),
            "soda": lambda: bare_soda(frame),
            "pandera": lambda: pandera(frame),
            "verify": lambda: _verify(checker, contract, dirty),
            "remedy": lambda: run_gate(dirty, GateOutcome.REMEDIED),
        }
        took = compare(rivals, args.rounds)
    figures: dict[str, Any] = {
        "gate_vs_soda": round(took["gate"] / took["soda"], 3),
        "gate_vs_pandera": round(took["gate"] / took["pandera"], 3),
        "quarantine_vs_verify": round(took["remedy"] / took["verify"], 3),
    }
    context = {f"{name}_s": round(value, 3) for name, value in took.items()}
    context |= {"rows": args.rows, "checks": CHECKS, "rounds": args.rounds, "bad_rows": args.rows // 1000}
    context |= {"cpus": os.cpu_count() or 0}
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in (figures | context).items():
            print(f"{name:24} {value}")


def _verify(checker: SodaChecker, contract: Any, data: pd.DataFrame) -> None:
    if checker.verify(contract, parse_dataset(data)).ok:
        raise RuntimeError("the planted rows were not found")


if __name__ == "__main__":
    main()

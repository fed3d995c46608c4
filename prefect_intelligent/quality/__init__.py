"""Data contracts: verifies datasets, quarantines or repairs bad rows, and decides whether data may be used.

Read first:
    gate.py         verify, remedy, verify again, and the outcome for one dataset
    remediation.py  which action follows a failed check, the budgets and the circuit breaker; no I/O
    model.py        contract, check result and verification

Ports: `ports.QualityChecker`, `ports.DatasetEditor`, `ports.Downstream`
Command: `prefect-intelligent quality`
How-to: docs/how-to/gate-on-quality.md
"""

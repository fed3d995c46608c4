"""Prevention of failures: rules over evidence start and end measures, which are carried out in Prefect and scored.

Read first:
    engine.py    one pass: evaluates the rules, enforces their budgets, carries out and records measures
    evidence.py  `Evidence`, the input of the rules, and their statistics
    measures.py  `Measure`, its kinds (`Lever`), and `MeasureInForce` with its phases

Ports: `ports.PreventionActions`
Command: `prefect-intelligent prevent`
How-to: docs/how-to/prevent-failures.md
"""

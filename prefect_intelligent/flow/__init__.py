"""What runs in the process of a user's flow: the decorator, the hooks that it adds, and the quality gate.

Read first:
    decorator.py     `@intelligent(...)`, `attach` and `publish`: what the runs of a flow are worth
    hooks.py         what happens at the start and the end of a run, within a time budget
    quality_gate.py  the task that checks data against a contract

Ports: none
Command: none, flows import it: `from prefect_intelligent import intelligent, quality_gate`
How-to: docs/how-to/gate-on-quality.md
"""

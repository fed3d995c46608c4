"""Fakes of the ports, checks that any policy must pass, and Hypothesis strategies; for our tests and for users'.

Read first:
    orchestrator.py  a work pool in memory that dispatches like Prefect's, with faults on demand
    policies.py      checks for a policy: bounds, purity, batches, order of queues, padding
    strategies.py    random snapshots and censuses

Ports: none, it implements those of the features
Command: none, tests import it
Explained in: docs/explanation/control-loop.md
"""

"""Steers a work pool: sets queue priorities, queue limits and the pool limit, records why, and can put all of it back.

Read first:
    controller.py  runs passes on events and on the interval while this process leads the pool
    decide.py      one pass without I/O: snapshot and state in, changes and reasons out
    reconcile.py   observes, decides, writes to Prefect and records the decision

Ports: `ports.Orchestrator`, `ports.Lease`, `ports.WakeUps`
Command: `prefect-intelligent control`, `prefect-intelligent explain`, `prefect-intelligent doctor`
How-to: docs/how-to/run-the-controller.md
"""

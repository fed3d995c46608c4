"""The twin and a real Prefect on the same days: who gets a slot when, and how long runs wait.

Read first:
    days.py        what is asked of both: queues, limits, workers, parents, and when runs come
    recording.py   a day on a real server with real worker processes
    comparison.py  the same day in the twin, order of starts and quantiles of waits

Ports: none
Command: `python -m simulations.validate --against-prefect`
How-to: docs/explanation/twin.md
"""

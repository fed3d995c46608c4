"""Days on a real Prefect server in fast time: what a controller saves there, beside the same days in the twin.

Read first:
    real_day.py        one day on the server under one arm, from the first submission to the cost
    holding_worker.py  a worker that holds a run for its time instead of starting a process
    fast_time.py       the one place in which a second of the day and a second of the clock differ

Ports: none
Command: `python -m benchmarks.live --json`
How-to: docs/explanation/live-days.md
"""

"""Benchmarks; each prints one JSON object with `figures` and `context` on `--json`.

Read first:
    simulator.py  speed of the twin against SimPy and Ciw
    control.py    duration of a decision on a real Prefect server
    training.py   speed of PPO, and duration of a decision of the trained policy
    live/         days on a real Prefect server in fast time

Ports: none Command: `python -m benchmarks.simulator --json`, and likewise for every other module but browser.py and
dashboard_world.py How-to: none, figures in documents name the command that prints them
"""

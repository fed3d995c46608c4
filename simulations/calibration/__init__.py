"""Fits a scenario to the history of a work pool.

Read first:
    observed.py  what the history has of a pool: runs, changes of state, queues, deployments
    fit.py       every part of the scenario fitted by itself, with notes on what is doubtful
    goodness.py  observed figures against those of the fitted scenario in the twin

Ports: none, the history is read by `prefect_intelligent.history.adapters.sql_runs.SqlRuns`
Command: `python -m simulations.calibrate`
How-to: docs/how-to/calibrate-your-pool.md
"""

"""Forecasts how long runs take and how likely they fail, from the history of runs.

Read first:
    point_in_time_features.py  features of a run from what was known when it was submitted
    forecaster.py              the trained model: failure probability, duration quantiles, reasons
    outlook.py                 what is expected of the next run of each deployment, for the controller

Ports: `ports.OutlookSource`
Command: `prefect-intelligent predict`
How-to: docs/how-to/foretell-and-recommend.md
"""

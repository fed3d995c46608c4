"""Deployable flows: the pipelines of the demo, and the scheduled work around policies, forecasts and history.

Read first:
    retrain_policy.py    from a pool's history to a challenger, and to a champion if the promotion gate passes
    store_partitions.py  the datasets of the demo pipelines: folders of Parquet partitions
    demo/workload.py     the pipelines and runs of the demo

Ports: none; flows use the package through `prefect_intelligent.wiring`
Command: `make demo`, or `python -m flows.demo`
How-to: docs/how-to/retrain-and-promote.md
"""

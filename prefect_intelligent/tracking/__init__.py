"""Sends decisions, flow runs, quality results and other records to MLflow, each once and in order.

Read first:
    shipper.py         one pass: spool to outbox, outbox to the tracking server, records to archive files
    outbox.py          SQLite file with every event until the server has it
    metrics.py         which numbers of a record become metrics, and of which stream

Ports: `ports.Tracker`
Command: `prefect-intelligent ship`
How-to: docs/how-to/see-it-in-mlflow.md
"""

"""Rollout of versions: deploy, canary, roll back; every change is written to Prefect in one transaction.

Read first:
    strategies.py    `Rollout`: swap, drain, restart and rollback of a deployment's version
    canary.py        lets a share of the runs execute a new version until a sequential test decides
    transactions.py  writes several resources atomically, also across crashes

Ports: `pipelines.ports.PipelineServer`, `pipelines.ports.BlobStore`, `history.ports.HistoryStore`
Command: `prefect-intelligent deploy`, `prefect-intelligent rollback`, `prefect-intelligent versions`
How-to: docs/how-to/roll-back.md, docs/how-to/canary-a-version.md
"""

"""Puts settings, adapters and features together: the only place that knows all three.

A module per feature; its functions make what a command, a flow, a hook or the dashboard works with. Adapters that are
slow to import are imported when they are needed.

Read first:
    steering.py   settings to a controller of one work pool, and one pass on behalf of a hook
    pipelines.py  settings to the workspace that the pipeline commands share
    history.py    settings to the history, and to what a Prefect server remembers

Ports: none of its own; it fills those of the features
Command: none of its own; every command of `cli` calls it
Explained in: docs/explanation/architecture.md
"""

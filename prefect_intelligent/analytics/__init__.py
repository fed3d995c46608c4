"""Analyses the history of runs: metrics and costs by group, health and error budgets, causes of failure, alerts.

Read first:
    run_metrics.py   waiting, duration, lateness and costs of the runs of a span, by pool, queue, deployment and more
    health.py        status and score of a deployment, and what they are based on
    alerts.py        rules that turn findings into alerts, and how duplicates are removed

Ports: none of its own; `alert_events` uses `history.ports.HistoryStore` and `steering.ports.Orchestrator`
Command: `prefect-intelligent report`, `prefect-intelligent health`, `prefect-intelligent alerts`
How-to: docs/how-to/read-what-happened.md
"""

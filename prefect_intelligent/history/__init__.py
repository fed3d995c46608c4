"""The history: runs copied from a Prefect server before it forgets them, and our own records.

Read first:
    sync.py        copies runs, events, deployments and queues from the server, incrementally
    rows.py        the rows that are copied, one named tuple per table
    runs_frame.py  the data frame of runs that analytics and forecasting read

Ports: `ports.HistoryStore`, `ports.RunSource`, `ports.RunStore`
Command: `prefect-intelligent sync`
How-to: docs/how-to/keep-history.md
"""

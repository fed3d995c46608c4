"""A web page on a live pool: queues, runs, alerts, health, spending and decisions; also as one static file.

Read first:
    state.py      builds the state that the page shows, as JSON values
    broadcast.py  sends changes of the state to the browsers that listen
    app.py        the web application: routes, tokens, headers, and the few actions

Ports: none of its own; it reads `history.ports.HistoryStore` and a snapshot of `steering.ports.Orchestrator`
Command: `prefect-intelligent dashboard`
How-to: docs/how-to/watch-the-dashboard.md
"""

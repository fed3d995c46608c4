"""Recommendations: changes that would have saved money, evaluated by replaying the history in the twin.

Read first:
    candidates.py  proposes changes of limits, queues, schedules, retries, deadlines
    evaluate.py    replays the history with each change and ranks the savings
    apply.py       writes a recommendation to Prefect, undoes it, and measures what it has saved

Ports: `steering.ports.Orchestrator`, `history.ports.HistoryStore`
Command: `prefect-intelligent recommend`
How-to: docs/how-to/foretell-and-recommend.md
"""

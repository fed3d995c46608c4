"""Asks the twin what would happen: the recorded history under other policies, and the running pool from now on.

Read first:
    replay.py          the user's own history under several policies, with paired savings and intervals
    eta.py             start and end of each live run, and the effect of a change of settings
    tradeoff_curve.py  capacity cost against lateness cost for several weights of lateness

Ports: none
Command: `prefect-intelligent replay`, `prefect-intelligent eta`, `prefect-intelligent what-if`
How-to: docs/how-to/replay-your-history.md
"""

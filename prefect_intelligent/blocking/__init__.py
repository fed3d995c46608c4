"""What keeps runs of a work pool from starting: every reason, the one thing to do, and when they start otherwise.

Read first:
    chain.py    from the facts to what blocks one run, one deployment, or runs of the whole pool
    reasons.py  the reasons, and `Blocker`: a reason with its sentence, its advice and its end
    facts.py    `BlockingFacts`: what the reasons are drawn from

Ports: none, the facts are plain data
Command: `prefect-intelligent why`, `prefect-intelligent doctor`, `prefect-intelligent alerts`
How-to: docs/how-to/find-out-why-a-run-waits.md
"""

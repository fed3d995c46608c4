"""The demo: the same morning twice on a real Prefect server, first under Prefect's defaults and then steered.

Read first:
    run.py       the whole demo: server, both arms, result
    arm.py       one of the two mornings: worker, controller, submitted runs
    workload.py  the deployments and the runs of a morning

Ports: none
Command: `python -m flows.demo`, with a tutorial in docs/tutorials/first-steering.md
How-to: docs/how-to/run-the-controller.md
"""

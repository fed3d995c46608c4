"""The demo: the same morning on a real Prefect server, under Prefect's defaults, steered, and steered by an agent.

Read first:
    run.py       the whole demo: server, all arms, result
    arm.py       one of the mornings: worker, controller, submitted runs
    workload.py  the deployments and the runs of a morning

Ports: none
Command: `python -m flows.demo`, with a tutorial in docs/tutorials/first-steering.md
How-to: docs/how-to/run-the-controller.md
"""

"""How many slots a pool wants, and who brings them: an autoscaler, a command, or process workers on this machine.

Read first:
    desired_slots.py             the number, from a snapshot and the limits in force
    fleet_plan.py                which workers of a fleet are started, drained or kept
    adapters/local_fleet.py      a fleet of process workers

Ports: `ports.Capacity`
Command: `prefect-intelligent fleet`, `prefect-intelligent control run`
How-to: docs/how-to/scale-capacity.md
"""

"""Figures, verdict and report of an evaluation, computed from the metrics of episodes.

Read first:
    comparisons.py  paired cost ratios, the gap to the clairvoyant planner, the verdict
    statistics.py   ratios with bootstrap intervals
    report.py       the report as JSON and Markdown; figures.py draws its pictures

Ports: none
Command: `python -m rl.evaluate`
How-to: docs/how-to/train-a-policy.md
"""

"""Reinforcement-learning environments over batches of simulated pools.

Read first:
    batch.py   many worlds stepped as one: actions in, observations and rewards out
    env.py     `PrefectCluster-v0` for Gymnasium, one world
    vector.py  the batch as vector environment of Gymnasium and of stable-baselines3

Ports: none
Command: none, `gymnasium.make("PrefectCluster-v0")` after `import simulations`
How-to: none, the reference is docs/reference/environment.md
"""

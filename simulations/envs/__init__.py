"""The reinforcement-learning environment `PrefectCluster-v0`, for one world or many at once; `rl.train` trains in it.

Read first:
    env.py     one world for Gymnasium: what is observed, done, rewarded and when it ends
    vector.py  many worlds for Gymnasium and for stable-baselines3
    batch.py   what both are made of: worlds stepped as one

Ports: none
Command: none, `gymnasium.make("PrefectCluster-v0")` after `import simulations`
How-to: none, the reference is docs/reference/environment.md
"""

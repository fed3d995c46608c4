"""Training of the policy that corrects a base rule: rules are tuned, states labelled, the network fitted and evaluated.

Read first:
    worlds.py    which simulated days policies are tuned, trained and validated on
    train.py     one PPO run: settings, learning rates, checkpoints, validation; the learner is ppo.py
    evaluate.py  policies compared on the same days, and what may be claimed

Ports: none; what comes out is a bundle, `prefect_intelligent.policy.bundle.Bundle`
Command: `python -m rl.train` (all steps: `make train`)
How-to: docs/how-to/train-a-policy.md
"""

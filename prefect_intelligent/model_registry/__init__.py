"""Versions of learned policies: stored with aliases, promoted to champion past a gate, and followed by controllers.

Read first:
    promotion.py        the gate's conditions, promotion and rollback
    champion_policy.py  the policy that follows the champion alias, with a shadow phase
    replay_evidence.py  evidence for the gate from the pool's own history

Ports: `ports.PolicyStore`
Command: `prefect-intelligent promote`
How-to: docs/how-to/retrain-and-promote.md
"""

"""Access to Prefect's REST API for all features: calls, leases, published terms and patches of deployments.

Read first:
    api.py                 one call: time-outs, retries, CSRF, and which answer becomes which error
    lease.py               leadership as a concurrency limit that decays
    claims                 temporary changes of deployments (holds, shares) that any process can revert, a package

Ports: none
Command: none, features call it from their adapters
Explained in: docs/reference/prefect-calls.md
"""

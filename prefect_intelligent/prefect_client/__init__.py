"""Prefect's API: calls, leases, published terms and patches of deployments."""

"""Steering on a Prefect server: the pool, its live runs and deployments, events; metrics for Prometheus."""

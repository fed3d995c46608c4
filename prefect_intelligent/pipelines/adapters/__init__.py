"""Adapters of pipelines: Prefect's API, source trees, Soda contracts, blob stores, and the lock between commands."""

"""Adapter of prevention: its actions on a Prefect server."""

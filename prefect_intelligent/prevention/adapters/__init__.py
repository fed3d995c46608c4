"""Measures of prevention on a Prefect server."""

"""One work pool on a Prefect server."""

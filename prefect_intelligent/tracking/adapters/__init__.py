"""MLflow as the tracking server."""

"""The tracking server: MLflow."""

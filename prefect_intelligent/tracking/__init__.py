"""Everything that happened, sent to MLflow."""

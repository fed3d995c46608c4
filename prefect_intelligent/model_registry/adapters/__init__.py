"""Stores of policies: a folder, or MLflow's model registry."""

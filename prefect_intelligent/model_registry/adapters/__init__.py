"""Policies in a folder or in MLflow's registry."""

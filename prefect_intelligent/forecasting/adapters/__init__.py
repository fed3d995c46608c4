"""Forecasters in the MLflow registry, and outlooks cached from the history."""

"""Forecasters in MLflow and outlooks from the history."""

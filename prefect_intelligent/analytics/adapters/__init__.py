"""Alerts as notifications of Prefect."""

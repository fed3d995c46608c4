"""Automations in Prefect that send alerts to notification blocks."""

"""Reads the facts from Prefect."""

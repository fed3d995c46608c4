"""Adapters of capacity."""

"""Soda as the checker of contracts."""

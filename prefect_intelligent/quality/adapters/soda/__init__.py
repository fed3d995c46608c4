"""Contracts checked by Soda."""

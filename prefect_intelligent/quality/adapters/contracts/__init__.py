"""Soda data contracts: reading, checking and translating them."""

"""Soda data contracts: reading their YAML, linting them, and checking the SQL in them."""

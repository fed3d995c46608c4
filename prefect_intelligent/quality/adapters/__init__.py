"""Contracts, Soda, data sources and edits of datasets."""

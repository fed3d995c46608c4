"""Recordings and replay pages as files."""

"""Bringing a version in and back out: strategies, canaries, trial runs."""

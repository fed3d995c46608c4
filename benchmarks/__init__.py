"""Benchmarks: each module prints one object with `--json`."""

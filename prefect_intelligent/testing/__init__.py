"""Shipped fakes for the ports, conformance checks and Hypothesis strategies."""

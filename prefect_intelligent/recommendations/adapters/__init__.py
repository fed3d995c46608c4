"""Adapter of recommendations: memory use from the files of an OpenTelemetry collector."""

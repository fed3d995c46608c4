"""Pipelines: deployments joined by the datasets they read and write; their conflicts, versions and changes. Pure."""

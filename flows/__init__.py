"""Deployable flows: the demo pipelines and the housekeeping of policies."""

"""Pipelines: deployments joined by the datasets they read and write, with their order, conflicts and versions.

Read first:
    survey.py       merges server, source, project file and overrides into a `PipelineModel`: graph and inventory
    automations.py  the Prefect automations that start deployments when their inputs are fresh for a batch
    apply_graph.py  compares these automations with the server and writes the difference

Sub-packages: `conflicts` has the rules of `graph check`, `rollout` has versions and canaries.

Ports: `ports.PipelineServer`, `ports.BlobStore`
Command: `prefect-intelligent graph`, `prefect-intelligent modify`
How-to: docs/how-to/order-pipelines.md, docs/how-to/change-a-running-pipeline.md
"""

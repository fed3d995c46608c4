"""Names of events, labels and environment variables in Prefect. Imports nothing: hooks in flows use it."""

from typing import Final

FRESH: Final = "prefect-intelligent.dataset.fresh"
"""Event: a dataset has been written for a batch."""
ARRIVED: Final = "prefect-intelligent.dataset.arrived"
"""Event: a dataset has been written for a batch, or its producer has failed for it."""
DATASET: Final = "prefect-intelligent.dataset."
"""Prefix of the resource id of a dataset."""
BATCH: Final = "prefect-intelligent.batch"
"""Label of these events: the batch."""
PIPELINE: Final = "prefect-intelligent.pipeline"
"""Label of these events: the pipeline version under which the batch began."""
PIPELINE_ENV: Final = "PREFECT_INTELLIGENT_PIPELINE"
"""Environment variable of runs that an automation starts: the pipeline version of their batch."""
NO_PIPELINE: Final = "none"
"""Pipeline version of batches of a deployment that no longer belongs to a pipeline."""

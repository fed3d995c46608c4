"""Events that tell Prefect that a dataset was written, kept until they are delivered."""

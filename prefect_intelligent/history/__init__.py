"""What a Prefect server remembered, kept for good, and the records of our own decisions."""

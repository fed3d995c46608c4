"""The history in SQL, and Prefect as its source."""

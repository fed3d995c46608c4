"""The model of Prefect: what happens to a run, and the tables in which it happens."""

"""Contract files, Soda, data sources, editing of datasets, and events, artifacts and holds in Prefect."""

"""Contract files, Soda, data sources, editing of datasets, and what Prefect is told and asked to do."""

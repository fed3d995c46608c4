"""Opening and reading datasets: DuckDB (with frames, Parquet and CSV files) and PostgreSQL."""

"""Where datasets lie: CSV, DuckDB, PostgreSQL."""

"""The only importers of Prefect's client, MLflow, Soda and SQLAlchemy."""

"""The demo: the same morning twice on a real Prefect server, first under Prefect's defaults and then steered."""

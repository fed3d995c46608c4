"""The dispatch model: how Prefect would run a pool, deterministic and fast."""

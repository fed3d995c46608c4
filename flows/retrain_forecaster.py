"""Train the forecaster of failures and durations again when its forecasts drift, on a schedule.

python -m flows.retrain_forecaster --serve    # daily, as a deployment of this process
python -m flows.retrain_forecaster            # once, now
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from prefect import flow, get_run_logger

from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.forecasting import look_for_drift, retrain_forecaster


@flow(name="retrain-forecaster")
def retrain(last: str = "90d", track: bool = True, always: bool = False) -> dict[str, Any]:
    """Look for drift; if there is any, train, evaluate and log a forecaster, and serve it if it is better.

    Args:
        last: How much history is used.
        track: Whether to log to MLflow and register the version there.
        always: Train also without drift.

    Returns:
        `trained`, `reasons`, and if it was trained `facts`, the figures of the training.
    """
    settings, logger = load_settings().settings, get_run_logger()
    since_s = time.time() - parse_span(last, what="last")
    try:
        drift = look_for_drift(settings, since_s=since_s)
        reasons, due = list(drift.reasons), drift.retrain
    except InvalidInputError as error:  # there is no forecaster yet
        reasons, due = [str(error)], True
    if not (due or always):
        logger.info("not trained: %s", "; ".join(reasons))
        return {"trained": False, "reasons": reasons}
    facts = retrain_forecaster(settings, since_s=since_s, track=track)
    logger.info("trained on %.0f runs; serves: %s", facts["runs"], facts["serves"])
    return {"trained": True, "reasons": reasons, "facts": facts}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--serve", action="store_true", help="stay, and run every day at 05:00 UTC")
    if parser.parse_args().serve:
        retrain.serve(name="daily", cron="0 5 * * *")
    else:
        retrain(always=True)


if __name__ == "__main__":
    main()

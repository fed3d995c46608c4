"""`prefect-intelligent explain`: the last decision, queue by queue, and what the rule would have done instead."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import UnknownNameError


def command(
    *,
    pool: Pool = None,
    queue: Annotated[str | None, Parameter(metavar="NAME", help="only this queue")] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print the decision; exit code 1 if there is none yet."""
    from prefect_intelligent.history.reading import read_latest
    from prefect_intelligent.steering.decision_record import KIND, read_decision
    from prefect_intelligent.wiring.history import has_history, open_history
    from prefect_intelligent.wiring.regime import outside_regime
    from prefect_intelligent.wiring.steering import check_pool

    settings, name = settings_and_pool(config, pool)
    found = read_latest(open_history(settings), KIND, name, read_decision) if has_history(settings) else None
    if found is None:
        check_pool(name)
        print(f"There is no decision about work pool {name} in {mask_secrets(settings.history)}.")
        return 1
    decision = {key: value for key, value in found.items() if key != "memory"}
    if queue is not None:
        decision["queues"] = [_named(decision["queues"], queue)]
    if as_json:
        print_json(decision)
        return 0
    from prefect_intelligent.cli import formatting

    formatting.queue_table(decision)
    formatting.console.print(
        f"{decision['outcome']} in mode {decision['mode']} by {decision['by']}; policy {decision['policy']}, "
        f"rule {decision['rule']}; own computing {decision['own_ms']:.1f} ms of {decision['wall_ms']:.0f} ms",
        soft_wrap=True,
    )
    outside = outside_regime(settings, name)
    if outside:
        formatting.console.print(f"Outside the regime of the bundle's figures: {'; '.join(outside)}.", soft_wrap=True)
    for row in decision["planned"]:
        done = "written" if row in decision["applied"] else "not written"
        formatting.say(f"  {formatting.change(row)} ({done})")
    for reason in formatting.reasons(decision):
        formatting.console.print(f"  {reason}", soft_wrap=True)
    return 0


def _named(queues: list[dict[str, object]], name: str) -> dict[str, object]:
    for queue in queues:
        if queue["name"] == name:
            return queue
    raise UnknownNameError("work queue", name, (str(queue["name"]) for queue in queues))

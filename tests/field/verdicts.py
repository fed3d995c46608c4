"""Whether what `why` says of a planted situation is right: by the plan, and by what the server does."""

from __future__ import annotations

from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocking import explain_why
from tests.field.situations import Situation
from tests.field.stage import Stage
from tests.real_prefect import RealServer


def faults(situation: Situation, server: RealServer) -> list[str]:
    """What is wrong, in sentences; none if the reasons, the advice and the end are right."""
    stage = Stage(server)
    for plant in situation.plants:
        plant(stage)
    pools = {} if stage.worker_slots is None else {stage.pool: {"worker_slots": stage.worker_slots}}
    settings = Settings(pools=pools)  # type: ignore[arg-type]
    verdict = explain_why(settings, stage.subject, estimate=False)
    names = tuple(blocker.reason.name for blocker in verdict.blockers)
    wrong = []
    if names != situation.reasons:
        wrong.append(f"reasons {names}, not {situation.reasons}: {verdict.lines}")
    if situation.do not in verdict.advice or bool(situation.do) != bool(verdict.advice):
        wrong.append(f"advice {verdict.advice!r}, not {situation.do!r}")
    if situation.blocked and stage.run is not None and stage.starts():
        wrong.append("a worker starts the run all the same")
    if situation.begins:
        stage.resolve()
        if stage.api.read_run(str(stage.run))["state_name"] == "AwaitingConcurrencySlot":
            stage.schedule(str(stage.run), -1.0)  # half a minute passes
        after = explain_why(settings, stage.subject, estimate=False)
        if [blocker.reason.name for blocker in after.blockers] != ["NEXT_POLL"]:
            wrong.append(f"after the advice: {after.lines}")
        if not stage.starts():
            wrong.append("a worker does not start the run after the advice")
    return wrong

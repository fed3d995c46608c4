"""A version on trial: a share of the runs executes it, a sequential test decides, and nobody has to watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prefect_intelligent.domain import Prices, Terms, run_cost
from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, TOKENS, ResourceChange
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.runs import PipelineRun
from prefect_intelligent.pipelines.sprt import CanaryVerdict, RunOutcome, SprtConfig, SprtState, sprt_verdict
from prefect_intelligent.pipelines.version import DeploymentVersion, canary_limit_name

QualityLookup = Callable[[str], float | None]
"""Quality score of a run by its id; None if it was not measured."""

_OUTAGE_S = 120.0  # without an answer; then the trial is given up
_MATTERS = ("entrypoint", "job_variables", "parameter_openapi_schema", "work_pool_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStatus:
    """How a trial ended (or stands).

    Attributes:
        verdict: What was decided.
        canary_runs: Ended runs that executed the new version.
        stable_runs: Ended runs since the start that executed the old one.
        measured: State of every measure.
        waited_s: How long it took.
    """

    verdict: CanaryVerdict
    canary_runs: int
    stable_runs: int
    measured: tuple[SprtState, ...] = field(default=())
    waited_s: float = 0.0


def run_canary(
    rollout: Rollout,
    version: DeploymentVersion,
    *,
    share: float,
    trial: SprtConfig,
    timeout_s: float,
    prices: Prices,
    poll_s: float = 1.0,
    quality: QualityLookup = lambda run_id: None,
    tell: Callable[[CanaryStatus], None] = lambda state: None,
) -> CanaryStatus:
    """Let a share of the runs execute `version` until the test has decided, then promote it or roll it back.

    The choice is made at the start of each run in the pull step of the one deployment: no run is moved, made or
    removed, whoever started it. A run executes the new version if it gets a token, and of these there are never more
    than the share of the runs that have started. This process adds them: if it dies, no further run is put on trial,
    and the next command takes the trial back.

    Args:
        rollout: Where.
        version: What is on trial.
        share: Of the runs, above 0 and at most 0.5.
        trial: How to judge.
        timeout_s: After which it is rolled back if nothing is decided.
        prices: For the cost of runs.
        poll_s: Seconds between two looks.
        quality: Quality of a run.
        tell: Called after every look.

    Raises:
        InvalidInputError: The share or the version cannot be used for a trial.
        OrchestratorUnavailableError: Prefect has been away for two minutes; the next command takes the trial back.
    """
    if not 0 < share <= 0.5:
        raise InvalidInputError("--share", share, "must be above 0 and at most 50 %")
    rollout.versions.check(version)
    held = rollout.held(version.deployment)
    stable = rollout.versions.current(version.deployment, held)
    if held is None or stable is None or stable.code is None:
        raise InvalidInputError("canary", version.deployment, "deploy it once with --strategy swap before")
    for key in _MATTERS:
        if held.get(key) != version.spec.get(key):
            raise InvalidInputError("canary", version.deployment, f"the new version changes {key}: use --strategy swap")
    clock = rollout.transactions.clock
    began_s = clock.now_s()
    terms = Terms.from_dict(version.terms)
    before = [_outcome(run, prices, terms, quality) for run in rollout.server.runs(version.deployment) if run.ended]
    tokens = canary_limit_name(version)
    content = stable.render(rollout.store, canary={"version": version.id, "tokens": tokens})
    resource = DEPLOYMENT + version.deployment
    on_trial = {**held, "pull_steps": content["pull_steps"]}
    rollout.server.write(TOKENS + tokens, None)  # what an earlier trial may have left
    admission = ResourceChange(resource=TOKENS + tokens, before=None, after={"allowed": 0})
    rollout.transactions.begin("canary", [admission, ResourceChange(resource=resource, before=held, after=on_trial)])

    def admit(started: int) -> None:
        rollout.server.write(TOKENS + tokens, {"allowed": int(share * started + 1e-9)})

    try:
        state = _watch(
            rollout, version, stable, trial, before, began_s, timeout_s, poll_s, prices, terms, quality, tell, admit
        )
    except BaseException:
        rollout.transactions.abandon()
        raise
    if state.verdict == "promote":
        change = ResourceChange(resource=resource, before=held, after=version.render(rollout.store))
        over = ResourceChange(resource=TOKENS + tokens, before={"allowed": 0}, after=None)
        rollout.transactions.commit("deploy --strategy canary", [change, over], {"version": version.id})
    else:
        rollout.transactions.abandon()
    return state


def _watch(
    rollout: Rollout,
    version: DeploymentVersion,
    stable: DeploymentVersion,
    trial: SprtConfig,
    before: list[RunOutcome],
    began_s: float,
    timeout_s: float,
    poll_s: float,
    prices: Prices,
    terms: Terms,
    quality: QualityLookup,
    tell: Callable[[CanaryStatus], None],
    admit: Callable[[int], None],
) -> CanaryStatus:
    """Look until it is decided, and admit more runs as more have started; a short outage of Prefect is sat out."""
    clock = rollout.transactions.clock
    seen: dict[str, PipelineRun] = {}
    started: set[str] = set()

    def look() -> CanaryStatus:
        recent = rollout.server.runs(version.deployment, since_s=began_s - 3600.0)
        begun = {run.id for run in recent if run.version and (run.started_s or 0.0) >= began_s} - started
        if begun:
            admit(len(started) + len(begun))
            started.update(begun)
        seen.update({run.id: run for run in recent if (run.ended_s or 0.0) >= began_s})
        ended = sorted(seen.values(), key=lambda run: run.ended_s or 0.0)
        new = [_outcome(run, prices, terms, quality) for run in ended if run.version == version.id]
        old = [_outcome(run, prices, terms, quality) for run in ended if run.version == stable.id]
        verdict, measured = sprt_verdict(trial, [*before, *old], new)
        waited_s = clock.now_s() - began_s
        if verdict == "continue" and waited_s >= timeout_s:
            verdict = "roll back"
        return CanaryStatus(
            verdict=verdict,
            canary_runs=len(new),
            stable_runs=len(old),
            measured=tuple(measured),
            waited_s=waited_s,
        )

    answered_s = began_s
    while True:
        try:
            state = look()
        except OrchestratorUnavailableError:
            if clock.now_s() - answered_s >= _OUTAGE_S:
                raise
        else:
            answered_s = clock.now_s()
            tell(state)
            if state.verdict != "continue":
                return state
        clock.sleep(poll_s)


def _outcome(run: PipelineRun, prices: Prices, terms: Terms, quality: QualityLookup) -> RunOutcome:
    """How a run went, in the terms of the test."""
    duration_s = None if run.started_s is None or run.ended_s is None else run.ended_s - run.started_s
    due_s = None if terms.deadline is None else terms.deadline.due_s(run.scheduled_s)
    late_s = 0.0 if due_s is None or run.ended_s is None else run.ended_s - due_s
    cost = run_cost(
        prices,
        held_s=duration_s or 0.0,
        late_s=late_s,
        late_usd_per_hour=terms.late_usd_per_hour,
        failed=run.failed,
        failure_usd=terms.failure_usd,
    )
    return RunOutcome(failed=run.failed, duration_s=duration_s, quality=quality(run.id), cost_usd=cost.total_usd)

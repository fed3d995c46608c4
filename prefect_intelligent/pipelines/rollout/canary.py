"""Canary release: a share of the runs executes a new version until a sequential test promotes or rejects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefect_intelligent.domain import Prices, Terms, run_cost
from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, TOKENS, ResourceChange
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.runs import PipelineRun
from prefect_intelligent.pipelines.sprt import CanaryVerdict, RunOutcome, SprtConfig, SprtState, sprt_verdict
from prefect_intelligent.pipelines.version import DeploymentVersion, canary_limit_name

QualityLookup = Callable[[str], float | None]
"""Returns the quality score of a run by its id; None if it was not measured."""

_LONGEST_OUTAGE_S = 120.0
_MUST_MATCH = ("entrypoint", "job_variables", "parameter_openapi_schema", "work_pool_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStatus:
    """The state of a canary release.

    Attributes:
        verdict: "continue" until it is decided.
        canary_runs: Number of ended runs that executed the new version.
        stable_runs: Number of ended runs since the start that executed the old version.
        measures: State of the test of every measure.
        elapsed_s: Time since the start, seconds.
    """

    verdict: CanaryVerdict
    canary_runs: int
    stable_runs: int
    measures: tuple[SprtState, ...] = ()
    elapsed_s: float = 0.0


def run_canary(
    rollout: Rollout,
    version: DeploymentVersion,
    *,
    share: float,
    config: SprtConfig,
    timeout_s: float,
    prices: Prices,
    poll_s: float = 1.0,
    quality: QualityLookup = lambda run_id: None,
    on_update: Callable[[CanaryStatus], None] = lambda status: None,
) -> CanaryStatus:
    """Let a share of the runs execute `version` until the test has decided, then promote it or roll it back.

    There is one deployment; its pull step chooses the version at the start of each run, so that no run is moved,
    created or removed, whoever started it. A run executes the new version if it gets a token. There are never more
    tokens than the share of the runs that have started. This process adds them: if it dies, no further run executes the
    new version, and the next command ends the canary.

    Args:
        rollout: Access to the server and the versions.
        version: The new version.
        share: Share of the runs that execute it, above 0 and at most 0.5.
        config: Parameters of the test.
        timeout_s: Time after which an undecided canary is rolled back, seconds.
        prices: Prices for the cost of runs.
        poll_s: Time between two polls, seconds.
        quality: Returns the quality score of a run.
        on_update: Called with the status after every poll.

    Raises:
        InvalidInputError: The share is out of range, or the version differs in more than code.
        OrchestratorUnavailableError: Prefect did not answer for two minutes; the next command ends the canary.
    """
    if not 0 < share <= 0.5:
        raise InvalidInputError("--share", share, "must be above 0 and at most 50 %")
    rollout.versions.check(version)
    stored = rollout.stored(version.deployment)
    stable = rollout.versions.current(version.deployment, stored)
    if stored is None or stable is None or stable.code is None:
        raise InvalidInputError("canary", version.deployment, "deploy it once with --strategy swap before")
    for key in _MUST_MATCH:
        if stored.get(key) != version.spec.get(key):
            raise InvalidInputError("canary", version.deployment, f"the new version changes {key}: use --strategy swap")
    clock = rollout.transactions.clock
    began_s = clock.now_s()
    terms = Terms.from_dict(version.terms)
    baseline = [_outcome(run, prices, terms, quality) for run in rollout.server.runs(version.deployment) if run.ended]
    tokens = canary_limit_name(version)
    content = stable.render(rollout.store, canary={"version": version.id, "tokens": tokens})
    resource = DEPLOYMENT + version.deployment
    on_trial = {**stored, "pull_steps": content["pull_steps"]}
    rollout.server.write(TOKENS + tokens, None)  # remove what an earlier canary may have left
    admission = ResourceChange(resource=TOKENS + tokens, before=None, after={"allowed": 0})
    rollout.transactions.begin("canary", [admission, ResourceChange(resource=resource, before=stored, after=on_trial)])

    def admit(started: int) -> None:
        rollout.server.write(TOKENS + tokens, {"allowed": int(share * started + 1e-9)})

    try:
        status = _wait_for_verdict(
            rollout,
            version,
            stable,
            config,
            baseline,
            began_s,
            timeout_s,
            poll_s,
            prices,
            terms,
            quality,
            on_update,
            admit,
        )
    except BaseException:
        rollout.transactions.abandon()
        raise
    if status.verdict == "promote":
        change = ResourceChange(resource=resource, before=stored, after=version.render(rollout.store))
        removal = ResourceChange(resource=TOKENS + tokens, before={"allowed": 0}, after=None)
        rollout.transactions.commit("deploy --strategy canary", [change, removal], {"version": version.id})
    else:
        rollout.transactions.abandon()
    return status


def _wait_for_verdict(
    rollout: Rollout,
    version: DeploymentVersion,
    stable: DeploymentVersion,
    config: SprtConfig,
    baseline: list[RunOutcome],
    began_s: float,
    timeout_s: float,
    poll_s: float,
    prices: Prices,
    terms: Terms,
    quality: QualityLookup,
    on_update: Callable[[CanaryStatus], None],
    admit: Callable[[int], None],
) -> CanaryStatus:
    """Poll until the test has decided, and admit more runs as more have started; tolerate short outages of Prefect."""
    clock = rollout.transactions.clock
    ended_runs: dict[str, PipelineRun] = {}
    started: set[str] = set()

    def poll() -> CanaryStatus:
        recent = rollout.server.runs(version.deployment, since_s=began_s - 3600.0)
        begun = {run.id for run in recent if run.version and (run.started_s or 0.0) >= began_s} - started
        if begun:
            admit(len(started) + len(begun))
            started.update(begun)
        ended_runs.update({run.id: run for run in recent if (run.ended_s or 0.0) >= began_s})
        ended = sorted(ended_runs.values(), key=lambda run: run.ended_s or 0.0)
        new = [_outcome(run, prices, terms, quality) for run in ended if run.version == version.id]
        old = [_outcome(run, prices, terms, quality) for run in ended if run.version == stable.id]
        verdict, measures = sprt_verdict(config, [*baseline, *old], new)
        elapsed_s = clock.now_s() - began_s
        if verdict == "continue" and elapsed_s >= timeout_s:
            verdict = "roll back"
        return CanaryStatus(
            verdict=verdict,
            canary_runs=len(new),
            stable_runs=len(old),
            measures=tuple(measures),
            elapsed_s=elapsed_s,
        )

    answered_s = began_s
    while True:
        try:
            status = poll()
        except OrchestratorUnavailableError:
            if clock.now_s() - answered_s >= _LONGEST_OUTAGE_S:
                raise
        else:
            answered_s = clock.now_s()
            on_update(status)
            if status.verdict != "continue":
                return status
        clock.sleep(poll_s)


def _outcome(run: PipelineRun, prices: Prices, terms: Terms, quality: QualityLookup) -> RunOutcome:
    """Return the measures of an ended run."""
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

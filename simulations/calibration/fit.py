"""Fit a scenario to an observed pool, part by part, with notes on what is doubtful."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.domain import Deadline, RelativeDeadline, Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.policy.census import Array
from prefect_intelligent.replay.replay import past_estimates
from prefect_intelligent.replay.workers import learned_workers
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec
from simulations.arrivals import DAY_S, HOUR_S, Interval, Poisson
from simulations.calibration import arrivals as arrival_fits
from simulations.calibration import durations as duration_fits
from simulations.calibration.arrivals import Stream, fit_arrivals
from simulations.calibration.behaviour import Failures, Polls, fit_failures, fit_polls
from simulations.calibration.durations import fit_duration, ks_distance
from simulations.calibration.families import Family, fit_families, own_work
from simulations.calibration.observed import DeploymentFacts, Observed
from simulations.calibration.occupied import fit_occupied
from simulations.calibration.triggers import fit_triggers
from simulations.workload import Duration, Scenario, Source

_SETTLED_AFTER: Final = 5
_SHORTEST_S: Final = 0.1
_EVEN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One deployment, observed and fitted.

    Attributes:
        name: The deployment.
        runs: Number of observed runs.
        arrivals: Its arrival processes, in words.
        shape: Kind of the distribution of durations, in words.
        duration: That distribution.
        seconds: Durations it was fitted to.
        ks: Kolmogorov-Smirnov distance between the two.
        failures: How attempts end.
        upstreams: Deployments that trigger it.
        family: Whose runs create its runs and wait for them; None for none.
        notes: What is doubtful or rests on few runs.
    """

    name: str
    runs: int
    arrivals: str
    shape: str
    duration: Duration
    seconds: Array
    ks: float
    failures: Failures
    upstreams: tuple[str, ...]
    family: Family | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A fitted scenario, with the fits behind it.

    Attributes:
        scenario: The scenario.
        fits: One per deployment, by name.
        polls: Polls and start-up times of the workers.
        notes: What is doubtful about the pool as a whole.
    """

    scenario: Scenario
    fits: tuple[Fit, ...]
    polls: Polls
    notes: tuple[str, ...]


def calibrate(observed: Observed, model: PoolSpec, *, hours: float = 24.0) -> Calibrated:
    """Fit a scenario to the history of a pool.

    Args:
        observed: Its history.
        model: The pool as the settings describe it: prices, bounds, and values that are kept where none was observed.
        hours: Length of the scenario.

    Raises:
        InvalidInputError: No run of any deployment has ended.
    """
    runs = observed.runs
    origin_s = _origin_s(observed)
    streams = {
        str(name): fit_arrivals(
            group["scheduled_s"].to_numpy(float),
            observed.deployments.get(str(name), DeploymentFacts()).schedules,
            start_s=observed.start_s,
            end_s=observed.end_s,
            origin_s=origin_s,
        )
        for name, group in runs.groupby("deployment", sort=True)
    }
    families = _families(observed, streams)
    upstreams = {name: above for name, above in _upstreams(observed, streams).items() if name not in families}
    occupied, resources = fit_occupied(observed)
    estimates = _estimate_errors(runs)
    fits, sources = [], []
    for name, group in sorted(
        runs.groupby("deployment"), key=lambda each: (each[0] in upstreams, _usual_wait_s(each[1]))
    ):
        known = observed.deployments.get(str(name), DeploymentFacts())
        work = own_work(str(name), runs, families)
        shown = group if work is None else work[0]
        above = upstreams.get(str(name), ())
        fit = _fit(str(name), shown, known, streams[str(name)], above, families.get(str(name)), observed)
        if fit is None:
            continue
        fits.append(replace(fit, runs=len(group)))
        error = estimates.get(str(name), (0.0, 0.0))
        spec = _spec(fit, group, known, occupied.get(str(name), ()), None if work is None else work[1])
        sources += _sources(fit, group, spec, known, streams[str(name)], error)
    if not sources:
        raise InvalidInputError(
            f"history of work pool {observed.pool.name!r}", f"{len(runs)} runs", "none has ended; nothing can be fitted"
        )
    sources = _without_unfitted(sources)
    workers, doubt = learned_workers(
        observed.passages, observed.workers, observed.queues, observed.pool.limit, model.poll_s
    )
    polls = fit_polls(observed, _known_ahead(observed, streams), workers)
    pool = replace(_pool(observed, model, polls), workers=workers)
    scenario = Scenario(
        name=f"{observed.pool.name}",
        purpose=f"Work pool {observed.pool.name!r} as {len(runs)} runs of {observed.span_s / DAY_S:.1f} days show it.",
        pools=(pool,),
        sources=tuple(sources),
        resources=resources,
        hours=hours,
        start_s=origin_s,
    )
    notes = (*_pool_notes(observed, polls, pool), *(() if doubt is None else (doubt,)))
    return Calibrated(scenario=scenario, fits=tuple(fits), polls=polls, notes=notes)


def _families(observed: Observed, streams: dict[str, list[Stream]]) -> dict[str, Family]:
    """The deployments whose runs others create; those with a schedule, or at even instants, come by themselves."""
    came = {str(name): group["scheduled_s"].to_numpy(float) for name, group in observed.runs.groupby("deployment")}
    alone = {name for name, found in streams.items() if found[0].label == "schedule" or _even(came[name], found[0])}
    return fit_families(observed.runs, alone, observed.span_s)


def _even(came_s: Array, stream: Stream) -> bool:
    """Whether runs come at an interval to the second, as those do that a clock starts."""
    if not isinstance(stream.arrivals, Interval):
        return False
    phase = came_s % stream.arrivals.every_s
    off = np.abs(phase - np.median(phase))
    return bool(np.median(np.minimum(off, stream.arrivals.every_s - off)) < _EVEN_S)


def _usual_wait_s(group: pd.DataFrame) -> float:
    """Median wait. Deployments are listed by it: of runs due at one instant the twin serves the one listed first."""
    wait = float((group["started_s"] - group["scheduled_s"]).median())
    return wait if math.isfinite(wait) else math.inf


def _origin_s(observed: Observed) -> float:
    """Midnight UTC of the first observed Monday; of the first day if there is none."""
    first = observed.start_s - observed.start_s % DAY_S
    monday = first + (-(first // DAY_S + 3) % 7) * DAY_S
    return monday if monday + DAY_S <= observed.end_s else first


def _upstreams(observed: Observed, streams: dict[str, list[Stream]]) -> dict[str, tuple[str, ...]]:
    """Upstreams of the triggered deployments; those with a schedule or a fixed interval are not triggered."""
    runs = observed.runs
    completed = runs[runs["state"] == "COMPLETED"]
    done = {str(name): np.sort(each["ended_s"].to_numpy(float)) for name, each in completed.groupby("deployment")}
    came = {
        str(name): np.sort(each["scheduled_s"].to_numpy(float))
        for name, each in runs.groupby("deployment")
        if streams[str(name)][0].label not in ("schedule", "interval")
    }
    found = fit_triggers(came, done, observed.span_s)
    terms = {name: known.terms or Terms() for name, known in observed.deployments.items()}
    for name, above in found.items():  # an upstream that never ends last shows only in declared datasets
        wanted = set(terms.get(name, Terms()).inputs)
        declared = [
            other
            for other in sorted(done)
            if other != name and other not in above and wanted & set(terms.get(other, Terms()).outputs)
        ]
        same = [other for other in declared if 0.8 <= len(came[name]) / max(1, len(done[other])) <= 1.1]
        found[name] = (*above, *(other for other in same if name not in found.get(other, ())))
    return found


def _known_ahead(observed: Observed, streams: dict[str, list[Stream]]) -> npt.NDArray[np.bool_]:
    """Which runs lie on a schedule of the server."""
    names = {name for name, found in streams.items() if found[0].label == "schedule"}
    return observed.runs["deployment"].isin(names).to_numpy(bool)


def _estimate_errors(runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Per deployment: bias and noise of the log of the predicted duration over the median of all runs."""
    ended = settled(runs)
    predicted = np.array([each.p50_s for each in past_estimates(runs)])
    seconds = (runs["ended_s"] - runs["started_s"]).clip(lower=_SHORTEST_S)
    found = {}
    for name, group in runs[ended].groupby("deployment"):
        rows = group.index.to_numpy()[_SETTLED_AFTER:]
        if len(rows) >= _SETTLED_AFTER:
            off = np.log(predicted[rows] / float(seconds[rows].median()))
            found[str(name)] = (round(abs(float(off.mean())), 3), round(float(off.std()), 3))
    return found


def _fit(
    name: str,
    group: pd.DataFrame,
    known: DeploymentFacts,
    streams: Sequence[Stream],
    upstreams: tuple[str, ...],
    family: Family | None,
    seen: Observed,
) -> Fit | None:
    """Fit one deployment; None if nothing is known of its durations."""
    failures = fit_failures(group, seen.passages[seen.passages["deployment"] == name])
    whole = group[settled(group) & (group["state"] == "COMPLETED")]
    single = whole[whole["attempts"].fillna(1.0) <= 1]  # the time of a retried run includes its pauses
    used = single if len(single) >= min(len(whole), duration_fits.ENOUGH) else whole
    seconds = (used["ended_s"] - used["started_s"]).clip(lower=_SHORTEST_S).to_numpy(float)
    if len(seconds) == 0:
        guess = float(group["expected_s"].median())
        if not math.isfinite(guess):
            return None
        seconds = np.array([guess])
    duration, shape = fit_duration(seconds)
    words = "after " + ", ".join(upstreams) if upstreams else " + ".join(each.label for each in streams)
    return Fit(
        name=name,
        runs=len(group),
        arrivals=words if family is None else f"{family.times} by each {family.parent}",
        shape=shape,
        duration=duration,
        seconds=seconds,
        ks=ks_distance(seconds, duration),
        failures=failures,
        upstreams=upstreams,
        family=family,
        notes=tuple(_notes(group, () if family else streams, upstreams, len(used), failures, known)),
    )


def _notes(
    group: pd.DataFrame,
    streams: Sequence[Stream],
    upstreams: tuple[str, ...],
    used: int,
    failures: Failures,
    known: DeploymentFacts,
) -> Iterator[str]:
    if used < duration_fits.ENOUGH:
        yield f"durations from {used} runs only" if used else "no run has completed: the author's estimate is used"
    if not upstreams:
        yield from (each.note for each in streams if each.note)
    if len(group) < arrival_fits.ENOUGH and not any("rate" in each.note for each in streams):
        yield f"{len(group)} runs only"
    if failures.attempts < 50 and failures.fails + failures.crashes < 3.0 / max(1, failures.attempts):
        yield f"failure rate below {3.0 / max(1, failures.attempts):.0%} cannot be told from 0"
    if known.terms is not None and known.terms.resources:
        yield f"uses {', '.join(known.terms.resources)}: recorded durations contain its slowdown, which is not modelled"
    moved = int((group["queue"] != group["queue"].iloc[-1]).sum())
    if moved:
        yield f"{moved} runs were in another queue than {group['queue'].iloc[-1]!r}"


def _spec(
    fit: Fit, group: pd.DataFrame, known: DeploymentFacts, resources: tuple[str, ...], calls_at: float | None
) -> DeploymentSpec:
    """How the runs of a deployment behave."""
    terms = known.terms or Terms()
    price = group["late_usd_per_hour"].dropna()
    fee = group["failure_usd"].dropna()
    spec = DeploymentSpec(
        name=fit.name,
        queue=str(group["queue"].iloc[-1]),
        late_usd_per_hour=float(price.iloc[-1]) if len(price) else terms.late_usd_per_hour,
        failure_usd=float(fee.iloc[-1]) if len(fee) else terms.failure_usd,
        fails=fit.failures.fails,
        crashes=fit.failures.crashes,
        retries=fit.failures.retries,
        retry_delay_s=fit.failures.retry_delay_s,
        limit=known.limit,
        limit_group=known.limit_group,
        cancels_new=known.cancels_new,
        resources=resources,
    )
    return spec if calls_at is None else replace(spec, calls_at=calls_at)


def _sources(
    fit: Fit,
    group: pd.DataFrame,
    spec: DeploymentSpec,
    known: DeploymentFacts,
    streams: Sequence[Stream],
    error: tuple[float, float],
) -> list[Source]:
    """The sources of a deployment, one per arrival process."""
    called = fit.family is not None
    whole = Source(
        terms=spec,
        duration=fit.duration,
        arrivals=None if fit.upstreams or called else streams[0].arrivals,
        after=fit.upstreams,
        called_by=fit.family.parent if fit.family else None,
        called_times=fit.family.times if fit.family else 1,
        deadline=_deadline(group, known.terms or Terms()),
        estimate_bias=error[0],
        estimate_noise=error[1],
    )
    others = [] if fit.upstreams or called else streams[1:]
    return [
        whole,
        *(
            replace(whole, terms=replace(spec, name=f"{fit.name} ({each.label} {number})"), arrivals=each.arrivals)
            for number, each in enumerate(others, start=2)
        ),
    ]


def _deadline(group: pd.DataFrame, terms: Terms) -> Deadline | None:
    """The deadline of the terms; else the median time from schedule to due instant."""
    if terms.deadline is not None:
        return terms.deadline
    within = (group["due_s"] - group["scheduled_s"]).dropna()
    return RelativeDeadline(within_s=float(within.median())) if len(within) and within.median() > 0 else None


def _without_unfitted(sources: Sequence[Source]) -> list[Source]:
    """The sources without upstreams that could not be fitted; a source that has none left gets no arrivals."""
    names = {source.terms.name for source in sources}
    kept = []
    for source in sources:
        after = tuple(name for name in source.after if name in names)
        parent = source.called_by if source.called_by in names else None
        alone = not after and parent is None and source.arrivals is None
        arrivals = Poisson(per_hour=0.0) if alone else source.arrivals
        kept.append(replace(source, after=after, called_by=parent, arrivals=arrivals))
    return kept


def _pool(observed: Observed, model: PoolSpec, polls: Polls) -> PoolSpec:
    peak = _peak_concurrency(observed.runs)
    return replace(
        model,
        queues=observed.queues,
        limit=observed.pool.limit,
        max_slots=model.max_slots if observed.pool.limit is not None else max(peak, 1),
        poll_s=model.poll_s if polls.poll_s is None else polls.poll_s,
        prefetch_s=model.prefetch_s if polls.prefetch_s is None else polls.prefetch_s,
        startup_s=model.startup_s if polls.startup_s is None else polls.startup_s,
        startup_spread=model.startup_spread if polls.startup_spread is None else polls.startup_spread,
    )


def _pool_notes(observed: Observed, polls: Polls, pool: PoolSpec) -> Iterator[str]:
    if observed.span_s < 6 * DAY_S:
        yield f"{observed.span_s / HOUR_S:.1f} hours of history cannot show a week"
    if polls.poll_s is None:
        yield f"polls: {polls.claims} claims by a free pool seen, the setting poll_s = {pool.poll_s:g} is believed"
    if polls.startup_s is None:
        yield f"start-up: {polls.starts} seen, the setting startup_s = {pool.startup_s:g} is believed"
    if observed.pool.limit is None:
        yield f"the pool has no limit: at most {pool.max_slots} runs were seen at once, and so many slots are modelled"
    if observed.changes:
        yield f"settings changed {observed.changes} times: waits were recorded under others than those modelled"


def _peak_concurrency(runs: pd.DataFrame) -> int:
    """Largest number of runs that ran at the same time."""
    ended = runs[runs["started_s"].notna() & runs["ended_s"].notna()]
    at_s = np.concatenate([ended["started_s"].to_numpy(float), ended["ended_s"].to_numpy(float)])
    step = np.concatenate([np.ones(len(ended)), -np.ones(len(ended))])
    order = np.lexsort((step, at_s))
    return int(np.max(np.cumsum(step[order]), initial=0))

"""How well a fitted scenario reproduces what was observed: durations, arrivals, waits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.simulator import Twin
from simulations.arrivals import DAY_S, HOUR_S
from simulations.calibration.durations import quantile
from simulations.calibration.fit import Calibrated, Fit
from simulations.calibration.observed import Observed
from simulations.workload import Scenario, draw_world

_MOST_DAYS = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A figure, observed and fitted; None where it is unknown."""

    observed: float | None
    fitted: float | None

    @property
    def error(self) -> float | None:
        """Relative error; None if a value is unknown or the observed one is 0."""
        if self.observed is None or self.fitted is None or self.observed == 0:
            return None
        return self.fitted / self.observed - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodness:
    """One deployment's figures, observed and fitted.

    Attributes:
        fit: The deployment.
        duration_p50_s: Median duration.
        duration_p95_s: Its 95 % quantile.
        runs_per_day: Runs per day.
        wait_p50_s: Median time from the scheduled start to running, of runs with one attempt.
        wait_p95_s: Its 95 % quantile.
    """

    fit: Fit
    duration_p50_s: Pair
    duration_p95_s: Pair
    runs_per_day: Pair
    wait_p50_s: Pair
    wait_p95_s: Pair


def measure(observed: Observed, calibrated: Calibrated, *, worlds: int = 4, seed: int = 0) -> list[Goodness]:
    """Run the fitted scenario in the twin over the observed time (at most 14 days) and compare.

    The twin keeps the settings that the pool has now, as Prefect would without steering.

    Args:
        observed: The history of the pool.
        calibrated: What was fitted to it.
        worlds: Number of worlds.
        seed: Of the first world.
    """
    span_s = min(observed.span_s, _MOST_DAYS * DAY_S)
    start_s = observed.start_s
    scenario = calibrated.scenario
    played = replace(scenario, start_s=start_s, hours=max(span_s / HOUR_S, 0.1))
    waits, counts = _play(_shifted(played, scenario), worlds, seed)
    runs = observed.runs
    single = runs[(runs["attempts"].fillna(1.0) <= 1) & runs["started_s"].notna()]
    seen = {
        str(name): (each["started_s"] - each["scheduled_s"]).clip(lower=0.0).to_numpy(float)
        for name, each in single.groupby("deployment")
    }
    return [
        Goodness(
            fit=fit,
            duration_p50_s=Pair(observed=float(np.median(fit.seconds)), fitted=quantile(fit.duration, 0.5)),
            duration_p95_s=Pair(observed=float(np.quantile(fit.seconds, 0.95)), fitted=quantile(fit.duration, 0.95)),
            runs_per_day=Pair(
                observed=fit.runs / (observed.span_s / DAY_S), fitted=counts.get(fit.name, 0.0) / (span_s / DAY_S)
            ),
            wait_p50_s=_quantiles(seen, waits, fit.name, 0.5),
            wait_p95_s=_quantiles(seen, waits, fit.name, 0.95),
        )
        for fit in calibrated.fits
    ]


def unfit(found: Sequence[Goodness]) -> tuple[str, ...]:
    """What the scenario does not reproduce, a phrase for each figure of each deployment with enough runs.

    Durations and arrivals may be off by half, waits by a factor of two and a minute: they hang on all that is in the
    pool at once.
    """
    phrases = []
    for each in found:
        if each.fit.runs < _ENOUGH_TO_TELL:
            continue
        for figure, what, factor, slack in _TOLERATED:
            pair: Pair = getattr(each, figure)
            if pair.observed is None or pair.fitted is None:
                continue
            low, high = sorted((pair.observed, pair.fitted))
            if high > factor * low + slack:
                phrases.append(f"{each.fit.name}: {what} {_word(pair.observed)} observed, {_word(pair.fitted)} fitted")
    return tuple(phrases)


def _word(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_ENOUGH_TO_TELL = 20
_TOLERATED = (
    ("duration_p50_s", "median seconds", 1.5, 1.0),
    ("duration_p95_s", "p95 of seconds", 1.5, 1.0),
    ("runs_per_day", "runs a day", 1.5, 0.5),
    ("wait_p50_s", "median wait in seconds", 2.0, 60.0),
    ("wait_p95_s", "p95 of the wait in seconds", 2.0, 60.0),
)


def _shifted(played: Scenario, written: Scenario) -> Scenario:
    """The played scenario with its intervals at the same instants: offsets count from the day of its start."""
    days = (played.start_s - played.start_s % DAY_S) - (written.start_s - written.start_s % DAY_S)
    sources = []
    for source in played.sources:
        every_s = getattr(source.arrivals, "every_s", None)
        if every_s is not None:
            moved = replace(source.arrivals, offset_s=(source.arrivals.offset_s - days) % every_s)  # type: ignore[union-attr, type-var]
            source = replace(source, arrivals=moved)
        sources.append(source)
    return replace(played, sources=tuple(sources))


def _play(scenario: Scenario, worlds: int, seed: int) -> tuple[dict[str, Array], dict[str, float]]:
    """Seconds from scheduled to running of each deployment's runs with one attempt, and its runs per world."""
    waits: dict[str, list[Array]] = {}
    counts: dict[str, float] = {}
    for number in range(seed, seed + worlds):
        world = draw_world(scenario, number)
        twin = Twin(world, log=True)
        twin.finish()
        log, state = twin.log(), twin.state.runs[0]
        started = np.full(len(state), np.nan)
        begun = log[log["kind"] == kinds.STARTED]
        started[begun["run"]] = begun["at_s"]
        once = (state["failures"] == 0) & (state["crashes"] == 0) & np.isfinite(started)
        for place, source in enumerate(scenario.sources):
            own = world.runs["deployment"][0] == place
            name = source.terms.name.split(" (")[0]
            waits.setdefault(name, []).append(np.maximum(started - state["scheduled_s"], 0.0)[own & once])
            counts[name] = counts.get(name, 0.0) + float(own.sum()) / worlds
    return {name: np.concatenate(parts) for name, parts in waits.items()}, counts


def _quantiles(observed: Mapping[str, Array], fitted: Mapping[str, Array], name: str, share: float) -> Pair:
    return Pair(observed=_quantile(observed.get(name), share), fitted=_quantile(fitted.get(name), share))


def _quantile(values: Array | None, share: float) -> float | None:
    return None if values is None or len(values) == 0 else float(np.quantile(values, share))


def pool_waits(found: Sequence[Goodness]) -> dict[str, float | None]:
    """Mean absolute errors over deployments, weighted by runs: p50 and p95 of durations and waits."""
    out: dict[str, float | None] = {}
    for name in ("duration_p50_s", "duration_p95_s", "wait_p50_s", "wait_p95_s"):
        pairs = [(abs(error), each.fit.runs) for each in found if (error := getattr(each, name).error) is not None]
        total = sum(runs for _, runs in pairs)
        mean = sum(error * runs for error, runs in pairs) / total if total else math.nan
        out[name.removesuffix("_s") + "_error"] = None if math.isnan(mean) else mean
    return out

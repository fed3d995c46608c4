"""Looking back: was a measure of prevention right, and what was it worth?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.objective import busy_usd
from prefect_intelligent.prevention.evidence import EndedRun, Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, MeasureInForce

MeasureVerdict = Literal["right", "false", "open"]

_HELD = (Lever.HOLD, Lever.AVOID)
_BEFORE_S = DAY_S
_LONGEST_AFTER_S = 3 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureScore:
    """One measure, scored.

    Attributes:
        rule, subject, lever: What it was.
        at_s: When it began.
        written: Whether it was really done.
        probability: What was predicted: the chance that a run concerned fails if nothing is done.
        verdict: "open" while too little has happened since.
        saved_usd: What it saved, or would have if it was only recorded; below 0 is wasted; None while open.
        why: How it was judged.
    """

    rule: str
    subject: str
    lever: str
    at_s: float
    written: bool
    probability: float
    verdict: MeasureVerdict
    saved_usd: float | None
    why: str


def score_measures(records: Iterable[Mapping[str, Any]], watch: Evidence, prices: Prices) -> list[MeasureScore]:
    """Score every measure that has begun.

    A hold and an avoided host are right if the first probe failed again, or their cause was still there at their end,
    and false if not. Other measures that were done are right if runs concerned fail at most half as often after it as
    in the day before. What was only recorded is right if a run concerned failed while it stood, and false if runs
    concerned completed and none failed.

    Args:
        records: Of kind `prevention`, oldest first.
        watch: Ended runs over the whole span.
        prices: What a slot costs.
    """
    steps = [step for record in records for step in record["steps"]]
    scores = []
    for place, step in enumerate(steps):
        if step["to"] == "on" and step["from"] in ("-", "over") and not str(step["note"]).startswith("not done"):
            own = [s for s in steps[place + 1 :] if (s["rule"], s["subject"]) == (step["rule"], step["subject"])]
            scores.append(_scored(step, own, watch, prices))
    return scores


def summarise(scores: Sequence[MeasureScore]) -> dict[str, dict[str, float | None]]:
    """Per rule: measures, right, false and open ones, precision, dollars saved and wasted; by name of the rule."""
    out: dict[str, dict[str, float | None]] = {}
    for rule in sorted({score.rule for score in scores}):
        own = [score for score in scores if score.rule == rule]
        right, false = (sum(score.verdict == verdict for score in own) for verdict in ("right", "false"))
        known = [score.saved_usd for score in own if score.saved_usd is not None]
        out[rule] = {
            "measures": float(len(own)),
            "done": float(sum(score.written for score in own)),
            "right": float(right),
            "false": float(false),
            "open": float(len(own) - right - false),
            "precision": right / (right + false) if right + false else None,
            "saved_usd": sum(usd for usd in known if usd > 0),
            "wasted_usd": -sum(usd for usd in known if usd < 0),
        }
    return out


def _scored(
    step: Mapping[str, Any], later: Sequence[Mapping[str, Any]], watch: Evidence, prices: Prices
) -> MeasureScore:
    standing = MeasureInForce.from_record(
        {
            "rule": step["rule"],
            "subject": step["subject"],
            "measure": step["measure"],
            "phase": "on",
            "since_s": step["at_s"],
            "bad_since_s": step["bad_since_s"],
            "wait_s": 0.0,
            "count": 0,
            "probability": step["probability"],
            "why": step["why"],
            "written": step["written"],
        }
    )
    over = next((s["at_s"] for s in later if s["to"] == "over"), None)
    until = min(over if over is not None else watch.now_s, standing.since_s + _LONGEST_AFTER_S)
    concerned = [
        run
        for name in standing.measure.deployments or tuple(watch.ended)
        for run in watch.since(name, standing.since_s - _BEFORE_S)
        if standing.measure.concerns(run) or _same_work(standing, run)
    ]
    before = [run for run in concerned if run.ended_s <= standing.since_s and run.started_s >= standing.bad_since_s]
    after = [run for run in concerned if standing.since_s <= run.started_s and run.ended_s <= max(until, watch.now_s)]
    waste = _waste(before, prices)
    verdict: MeasureVerdict
    if not standing.written:
        verdict, saved, why = _of_shadow(after, until, waste)
    elif standing.measure.lever in _HELD:
        verdict, saved, why = _of_hold(standing, later, watch, waste)
    else:
        verdict, saved, why = _of_change(standing, after, waste)
    return MeasureScore(
        rule=standing.rule,
        subject=standing.subject,
        lever=str(standing.measure.lever),
        at_s=standing.since_s,
        written=standing.written,
        probability=standing.probability,
        verdict=verdict,
        saved_usd=saved,
        why=why,
    )


def _same_work(standing: MeasureInForce, run: EndedRun) -> bool:
    """After a roll-back or with more memory, runs of the deployment count whatever their version."""
    return standing.measure.version is not None and run.deployment in standing.measure.deployments


def _waste(before: Sequence[EndedRun], prices: Prices) -> float:
    """What a failed run costs: the mean over those that led to the measure; 0 if none did."""
    failed = [run for run in before if run.failed]
    costs = [
        busy_usd(run.ended_s - run.started_s, prices.slot_usd_per_hour, prices.min_billing_s) + run.failure_usd
        for run in failed
    ]
    return sum(costs) / len(costs) if costs else 0.0


def _of_shadow(after: Sequence[EndedRun], until: float, waste: float) -> tuple[MeasureVerdict, float | None, str]:
    inside = [run for run in after if run.started_s <= until]
    failed = sum(run.failed for run in inside)
    if not inside:
        return "open", None, "no run concerned has ended since"
    if failed:
        return "right", failed * waste, f"{failed} of {len(inside)} runs concerned failed"
    return "false", 0.0, f"none of {len(inside)} runs concerned failed"


def _of_hold(
    standing: MeasureInForce, later: Sequence[Mapping[str, Any]], watch: Evidence, waste: float
) -> tuple[MeasureVerdict, float | None, str]:
    back = [s for s in later if s["from"] == "probing"]
    if standing.rule == "bad-input":
        over = next((s for s in later if s["to"] == "over"), None)
        if over is None:
            return "open", None, "still held"
        source = standing.subject.removeprefix("deployment:")
        again = [r for r in watch.since(source, standing.since_s) if r.failed and r.ended_s <= over["at_s"]]
        right = bool(again) or over["at_s"] - standing.since_s > 3600.0
        why = f"its input failed {len(again)} more times" if right else "its input was healthy with the next run"
        ended_s = float(over["at_s"])
    elif not back:
        return "open", None, "no probe has ended yet"
    else:
        right = back[0]["to"] == "on"
        why = "the first probe failed again" if right else "the first probe completed"
        ended_s = float(next((s["at_s"] for s in later if s["to"] == "over"), watch.now_s))
    kept = _usual_per_hour(standing, watch) * (ended_s - standing.since_s) / 3600.0
    if right:
        return "right", kept * standing.probability * waste, why
    return "false", 0.0, why


def _of_change(
    standing: MeasureInForce, after: Sequence[EndedRun], waste: float
) -> tuple[MeasureVerdict, float | None, str]:
    if standing.measure.lever is Lever.STOP:
        if not after:
            return "open", None, "the deployment has not run since"
        first = after[0]
        elapsed = standing.since_s - standing.measure.amount
        right = not first.failed and first.ended_s - first.started_s < elapsed
        why = "run again it " + ("completed in time" if right else "did no better")
        return ("right" if right else "false"), (waste if right else -waste), why
    if len(after) < 3:
        return "open", None, f"{len(after)} runs concerned have ended since, 3 are needed"
    failed = sum(run.failed for run in after)
    expected = standing.probability * len(after)
    right = failed <= 0.5 * expected
    why = f"{failed} of {len(after)} runs concerned failed, {expected:.1f} expected without"
    return ("right" if right else "false"), (expected - failed) * waste, why


def _usual_per_hour(standing: MeasureInForce, watch: Evidence) -> float:
    """Runs of the deployments per hour in the day before."""
    count = 0
    for name in standing.measure.deployments:
        day = [run for run in watch.since(name, standing.since_s - DAY_S) if run.ended_s <= standing.since_s]
        if standing.measure.host is not None:
            day = [run for run in day if run.host == standing.measure.host]
        count += len(day)
    return count / 24.0

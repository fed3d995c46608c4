"""Scores of past measures: whether each was right, and what it saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.objective import busy_usd
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.prevention.engine import KIND, UNDONE
from prefect_intelligent.prevention.evidence import EndedRun, Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce

MeasureVerdict = Literal["right", "false", "open"]

_HELD = (Lever.HOLD, Lever.AVOID)
_BEFORE_S = DAY_S
_LONGEST_AFTER_S = 3 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureScore:
    """One measure, scored.

    Attributes:
        rule, subject, lever: Identify the measure.
        at_s: Its begin, Unix seconds.
        written: Whether it was carried out, or only recorded.
        probability: Predicted probability that an affected run fails without it.
        verdict: "open" while too few runs have ended since.
        saved_usd: Savings, US dollars, hypothetical if it was only recorded; negative if it cost more; None while open.
        why: Reason for the verdict.
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


def score_measures(records: Iterable[Mapping[str, Any]], evidence: Evidence, prices: Prices) -> list[MeasureScore]:
    """Score every measure that has begun.

    A hold or an avoided host is right if the first probe failed, or if the cause persisted until its end, else false.
    Other measures that were carried out are right if affected runs fail at most half as often as expected without them.
    A measure that was only recorded is right if an affected run failed while it was in force, and false if affected
    runs completed and none failed.

    Args:
        records: History records of kind `prevention`, oldest first.
        evidence: Ended runs over the whole time span.
        prices: Price of a slot.
    """
    steps = read_each(KIND, (step for record in records for step in record.get("steps", ())), _read_step)
    scores = []
    for place, step in enumerate(steps):
        if step["to"] == "on" and step["from"] in ("-", "over") and not str(step["note"]).startswith("not done"):
            own = [s for s in steps[place + 1 :] if (s["rule"], s["subject"]) == (step["rule"], step["subject"])]
            scores.append(_score(step, own, evidence, prices))
    return scores


def summarise(scores: Sequence[MeasureScore]) -> dict[str, dict[str, float | None]]:
    """Return, by rule, the numbers of measures by verdict, the precision, and the US dollars saved and wasted."""
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


def _read_step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded step, with defaults for fields that earlier versions of the package did not write."""
    found = {"from": "-", "note": "", "why": "", "probability": 0.0, "written": False, "bad_since_s": step["at_s"]}
    found |= {**step, "rule": str(step["rule"]), "subject": str(step["subject"]), "to": str(step["to"])}
    Measure.from_record(step["measure"])
    return found


def _score(
    step: Mapping[str, Any], later: Sequence[Mapping[str, Any]], evidence: Evidence, prices: Prices
) -> MeasureScore:
    in_force = MeasureInForce.from_record(
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
    until = min(over if over is not None else evidence.now_s, in_force.since_s + _LONGEST_AFTER_S)
    concerned = [
        run
        for name in in_force.measure.deployments or tuple(evidence.ended)
        for run in evidence.since(name, in_force.since_s - _BEFORE_S)
        if in_force.measure.concerns(run) or _same_work(in_force, run)
    ]
    before = [run for run in concerned if run.ended_s <= in_force.since_s and run.started_s >= in_force.bad_since_s]
    after = [
        run for run in concerned if in_force.since_s <= run.started_s and run.ended_s <= max(until, evidence.now_s)
    ]
    failure_usd = _cost_of_failure(before, prices)
    verdict: MeasureVerdict
    if in_force.measure.lever is Lever.CANCEL:
        verdict, saved, why = _score_cancel(in_force, later, evidence, prices)
    elif not in_force.written:
        verdict, saved, why = _score_shadow(after, until, failure_usd)
    elif in_force.measure.lever in _HELD:
        verdict, saved, why = _score_hold(in_force, later, evidence, failure_usd)
    else:
        verdict, saved, why = _score_change(in_force, after, failure_usd)
    return MeasureScore(
        rule=in_force.rule,
        subject=in_force.subject,
        lever=str(in_force.measure.lever),
        at_s=in_force.since_s,
        written=in_force.written,
        probability=in_force.probability,
        verdict=verdict,
        saved_usd=saved,
        why=why,
    )


def _same_work(in_force: MeasureInForce, run: EndedRun) -> bool:
    """Return whether a run counts although its version differs: for rollbacks and added memory all versions do."""
    return in_force.measure.version is not None and run.deployment in in_force.measure.deployments


def _cost_of_failure(before: Sequence[EndedRun], prices: Prices) -> float:
    """Return the mean cost of the failed runs before the measure, US dollars; 0 without any."""
    failed = [run for run in before if run.failed]
    costs = [
        busy_usd(run.ended_s - run.started_s, prices.slot_usd_per_hour, prices.min_billing_s) + run.failure_usd
        for run in failed
    ]
    return sum(costs) / len(costs) if costs else 0.0


def _score_shadow(
    after: Sequence[EndedRun], until: float, failure_usd: float
) -> tuple[MeasureVerdict, float | None, str]:
    inside = [run for run in after if run.started_s <= until]
    failed = sum(run.failed for run in inside)
    if not inside:
        return "open", None, "no run concerned has ended since"
    if failed:
        return "right", failed * failure_usd, f"{failed} of {len(inside)} runs concerned failed"
    return "false", 0.0, f"none of {len(inside)} runs concerned failed"


def _score_cancel(
    in_force: MeasureInForce, later: Sequence[Mapping[str, Any]], evidence: Evidence, prices: Prices
) -> tuple[MeasureVerdict, float | None, str]:
    """Right if a run of the deployment that began later has completed: nothing was missing for the cancelled ones."""
    (name,) = in_force.measure.deployments
    if any(step["to"] == "over" and step["why"] == UNDONE for step in later):
        return "false", 0.0, UNDONE
    done = [run for run in evidence.since(name, in_force.since_s) if not run.failed]
    if not any(run.started_s >= in_force.since_s for run in done):
        return "open", None, "no run of the deployment has completed since"
    usd = [
        busy_usd(run.ended_s - run.started_s, prices.slot_usd_per_hour, prices.min_billing_s)
        for run in evidence.ended.get(name, ())
        if not run.failed
    ]
    count = len(in_force.measure.runs)
    return "right", count * sum(usd) / len(usd), f"a later run completed; {count} cost no slot"


def _score_hold(
    in_force: MeasureInForce, later: Sequence[Mapping[str, Any]], evidence: Evidence, failure_usd: float
) -> tuple[MeasureVerdict, float | None, str]:
    back = [s for s in later if s["from"] == "probing"]
    if in_force.rule == "bad-input":
        over = next((s for s in later if s["to"] == "over"), None)
        if over is None:
            return "open", None, "still held"
        source = in_force.subject.removeprefix("deployment:")
        again = [r for r in evidence.since(source, in_force.since_s) if r.failed and r.ended_s <= over["at_s"]]
        right = bool(again) or over["at_s"] - in_force.since_s > 3600.0
        why = f"its input failed {len(again)} more times" if right else "its input was healthy with the next run"
        ended_s = float(over["at_s"])
    elif not back:
        return "open", None, "no probe has ended yet"
    else:
        right = back[0]["to"] == "on"
        why = "the first probe failed again" if right else "the first probe completed"
        ended_s = float(next((s["at_s"] for s in later if s["to"] == "over"), evidence.now_s))
    kept = _runs_per_hour(in_force, evidence) * (ended_s - in_force.since_s) / 3600.0
    if right:
        return "right", kept * in_force.probability * failure_usd, why
    return "false", 0.0, why


def _score_change(
    in_force: MeasureInForce, after: Sequence[EndedRun], failure_usd: float
) -> tuple[MeasureVerdict, float | None, str]:
    if in_force.measure.lever is Lever.STOP:
        if not after:
            return "open", None, "the deployment has not run since"
        first = after[0]
        elapsed = in_force.since_s - in_force.measure.amount
        right = not first.failed and first.ended_s - first.started_s < elapsed
        why = "run again it " + ("completed in time" if right else "did no better")
        return ("right" if right else "false"), (failure_usd if right else -failure_usd), why
    if len(after) < 3:
        return "open", None, f"{len(after)} runs concerned have ended since, 3 are needed"
    failed = sum(run.failed for run in after)
    expected = in_force.probability * len(after)
    right = failed <= 0.5 * expected
    why = f"{failed} of {len(after)} runs concerned failed, {expected:.1f} expected without"
    return ("right" if right else "false"), (expected - failed) * failure_usd, why


def _runs_per_hour(in_force: MeasureInForce, evidence: Evidence) -> float:
    """Runs of the deployments per hour in the day before."""
    count = 0
    for name in in_force.measure.deployments:
        day = [run for run in evidence.since(name, in_force.since_s - DAY_S) if run.ended_s <= in_force.since_s]
        if in_force.measure.host is not None:
            day = [run for run in day if run.host == in_force.measure.host]
        count += len(day)
    return count / 24.0

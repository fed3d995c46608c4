"""Acting before runs fail: ask the rules, keep to budgets, pull levers, record every step. Shadow first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, MeasureInForce, MeasurePhase, RuleSettings
from prefect_intelligent.prevention.ports import PreventionActions
from prefect_intelligent.prevention.rules import RULES

KIND: Final = "prevention"
EVENT: Final = "prevention"

_ONCE: Final = (Lever.STOP, Lever.POSTPONE, Lever.ROLL_BACK)
"""Levers with nothing to release."""


def key_prefix(pool: str) -> str:
    """How the keys of levers begin that prevention pulls for a pool."""
    return f"prevention of {pool}: "


def read_measures(history: HistoryStore, pool: str) -> dict[str, MeasureInForce]:
    """Measures in force or lately ended, by key."""
    last = history.latest(KIND, pool)
    rows = () if last is None else last["standing"]
    return {found.key: found for found in map(MeasureInForce.from_record, rows)}


def prevent(
    watch: Evidence,
    history: HistoryStore,
    levers: PreventionActions,
    pool: str,
    *,
    terms: Mapping[str, RuleSettings] | None = None,
    tell: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Make one pass over all rules and do what follows.

    Args:
        watch: What is known of the pool.
        history: Where measures and steps are kept.
        levers: Pulled for rules in mode "auto".
        pool: Name of the work pool.
        terms: Mode and budget by name of the rule; without, a rule is in shadow.
        tell: Called with an event's name and payload for each step of a rule in mode "auto".

    Returns:
        The steps taken: rule, subject, lever, from, to, why, at_s, probability, written, note.
    """
    last = history.latest(KIND, pool)
    standing = read_measures(history, pool)
    begun = [row for row in (last or {}).get("begun", ()) if row[1] > watch.now_s - DAY_S]
    refused = {name: at for name, at in (last or {}).get("refused", {}).items() if at > watch.now_s - DAY_S}
    before = dict(standing)
    steps: list[dict[str, Any]] = []
    for name, rule in RULES.items():
        may = (terms or {}).get(name, RuleSettings())
        if may.mode == "off":
            _end_all(name, standing, levers, key_prefix(pool), watch.now_s, steps)
            continue
        for new in list(rule(watch, standing)):
            old = standing.get(new.key)
            if new.phase is MeasurePhase.ON and (old is None or old.phase is MeasurePhase.OVER):
                reason = _beyond_budget(name, may, standing, begun)
                if reason is not None:
                    if new.key not in refused:
                        refused[new.key] = watch.now_s
                        steps.append(_step(old, new, f"not done: {reason}"))
                    continue
                begun.append([name, watch.now_s])
            new, note = _carried_out(levers, key_prefix(pool), old, new, may)
            standing[new.key] = new
            steps.append(_step(old, new, note))
            if tell is not None and may.mode == "auto":
                tell(EVENT, steps[-1])
        _extend(name, standing, levers, key_prefix(pool))
    kept = {key: s for key, s in standing.items() if s.phase is not MeasurePhase.OVER or watch.now_s < s.waited_s}
    if steps or kept != before:
        record = {
            "standing": [s.to_record() for s in kept.values()],
            "begun": begun,
            "refused": refused,
            "steps": steps,
            "at_s": watch.now_s,
        }
        history.append(KIND, pool, watch.now_s, record)
    return steps


def undo_prevention(history: HistoryStore, levers: PreventionActions, pool: str, now_s: float) -> tuple[str, ...]:
    """Put back everything that measures have changed in Prefect; returns the keys that were released.

    Works without the history too, because what was there before is kept in Prefect.
    """
    released = tuple(key for key in levers.in_force() if key.startswith(key_prefix(pool)))
    for key in released:
        levers.release(key)
    if read_measures(history, pool):
        history.append(KIND, pool, now_s, {"standing": [], "steps": [], "at_s": now_s})
    return released


def _beyond_budget(
    name: str, may: RuleSettings, standing: Mapping[str, MeasureInForce], begun: list[list[Any]]
) -> str | None:
    in_force = sum(s.rule == name and s.phase is not MeasurePhase.OVER for s in standing.values())
    if in_force >= may.most:
        return f"{in_force} measures of this rule are in force, its budget is {may.most}"
    today = sum(row[0] == name for row in begun)
    if today >= may.per_day:
        return f"{today} measures of this rule within a day, its budget is {may.per_day}"
    return None


def _carried_out(
    levers: PreventionActions, begin: str, old: MeasureInForce | None, new: MeasureInForce, may: RuleSettings
) -> tuple[MeasureInForce, str]:
    """The measure as it stands after the levers were pulled, and what is to be said about it."""
    was_written = old is not None and old.written
    if new.phase is MeasurePhase.OVER:
        if was_written and new.measure.lever not in _ONCE:
            try:
                levers.release(begin + new.key)
            except OrchestratorError as error:  # it stays in force, and is tried again with the next pass
                assert old is not None
                return old, f"could not be undone: {error}"
        return replace(new, written=was_written), ""
    if may.mode != "auto" and not was_written:
        return replace(new, written=False), "only recorded"
    try:
        done = _pull(levers, begin + new.key, old, new, may)
    except OrchestratorError as error:
        return replace(new, written=was_written), f"could not be done: {error}"
    if not done:
        return replace(new, written=was_written), "there is no lever for it here: a person is needed"
    return replace(new, written=True), ""


def _pull(
    levers: PreventionActions, key: str, old: MeasureInForce | None, new: MeasureInForce, may: RuleSettings
) -> bool:
    what = new.measure
    if new.phase is MeasurePhase.PROBING:
        if what.lever is Lever.HOLD:
            return bool(levers.share(key, what.deployments, 1))
        levers.release(key)
        return True
    if what.lever is Lever.HOLD:
        if old is not None and old.phase is MeasurePhase.PROBING:
            levers.release(key)
        return bool(levers.hold(key, what.deployments))
    if what.lever is Lever.SHARE:
        return bool(levers.share(key, what.deployments, int(what.amount)))
    if what.lever is Lever.RESIZE:
        return bool(levers.resize(key, what.deployments, what.amount))
    if what.lever is Lever.AVOID:
        return what.host is not None and bool(levers.avoid(key, what.deployments, what.host))
    if what.lever is Lever.PATIENCE:
        levers.be_patient(key, what.deployments, int(what.amount))
        return True
    if what.lever is Lever.POSTPONE:
        return bool(levers.postpone(what.runs, new.since_s + what.amount))
    if what.lever is Lever.STOP:
        stopped = [levers.stop(run, again=may.again, lost="no sign of life" in new.why) for run in what.runs]
        return any(stopped)
    if what.lever is Lever.ROLL_BACK:
        return levers.roll_back(what.deployments[0], what.version)
    return False


def _extend(name: str, standing: Mapping[str, MeasureInForce], levers: PreventionActions, begin: str) -> None:
    """Measures that work run by run are carried over to the runs that have come since."""
    for held in standing.values():
        if (
            held.rule == name
            and held.written
            and held.phase is MeasurePhase.ON
            and held.measure.lever is Lever.PATIENCE
        ):
            try:
                levers.be_patient(begin + held.key, held.measure.deployments, int(held.measure.amount))
            except OrchestratorError:
                return  # the next pass tries again


def _end_all(
    name: str,
    standing: dict[str, MeasureInForce],
    levers: PreventionActions,
    begin: str,
    now_s: float,
    steps: list[dict[str, Any]],
) -> None:
    """A rule that has been switched off lets go of everything."""
    for key, old in list(standing.items()):
        if old.rule == name and old.phase is not MeasurePhase.OVER:
            over = old.turned(MeasurePhase.OVER, now_s, "the rule is switched off", wait_s=0.0)
            standing[key], note = _carried_out(levers, begin, old, over, RuleSettings(mode="off"))
            steps.append(_step(old, over, note))


def _step(old: MeasureInForce | None, new: MeasureInForce, note: str) -> dict[str, Any]:
    return {
        "rule": new.rule,
        "subject": new.subject,
        "lever": str(new.measure.lever),
        "from": "-" if old is None else str(old.phase),
        "to": str(new.phase),
        "why": new.why,
        "at_s": new.since_s,
        "probability": new.probability,
        "written": new.written,
        "note": note,
        "measure": new.to_record()["measure"],
        "bad_since_s": new.bad_since_s,
    }

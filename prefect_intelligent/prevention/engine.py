"""One pass of prevention: evaluate the rules, enforce their budgets, carry out measures, record every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError, OrchestratorError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, MeasureInForce, MeasurePhase, RuleSettings
from prefect_intelligent.prevention.ports import PreventionActions
from prefect_intelligent.prevention.rules import RULES

KIND: Final = "prevention"
UNDONE: Final = "a person has undone it"
EVENT: Final = "prevention"

_IRREVERSIBLE: Final = (Lever.STOP, Lever.POSTPONE, Lever.ROLL_BACK)
"""Measures that cannot be released."""
_ENDS_AS_IT_IS: Final = (*_IRREVERSIBLE, Lever.CANCEL)
"""Measures of which nothing is released when they end by themselves; a person may undo a `CANCEL`."""


def key_prefix(pool: str) -> str:
    """Return the prefix of the keys of all measures for a pool."""
    return f"prevention of {pool}: "


def read_measures(history: HistoryStore, pool: str) -> dict[str, MeasureInForce]:
    """Return measures in force or recently ended, by key."""
    return _read_last(history, pool)[0]


def prevent(
    evidence: Evidence,
    history: HistoryStore,
    actions: PreventionActions,
    pool: str,
    *,
    settings: Mapping[str, RuleSettings] | None = None,
    emit: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate all rules once and carry out the measures of rules in mode "auto".

    Args:
        evidence: Runs, lineage and quality results of the pool.
        history: Stores measures and steps.
        actions: Carries out measures.
        pool: Name of the work pool.
        settings: Mode and budget by name of the rule; the default is mode "shadow".
        emit: Called with an event's name and payload for each step of a rule in mode "auto".

    Returns:
        The steps taken: rule, subject, lever, from, to, why, at_s, probability, written, note, measure, bad_since_s.
    """
    measures, started, refused = _read_last(history, pool, evidence.now_s - DAY_S)
    before = dict(measures)
    steps: list[dict[str, Any]] = []
    for name, rule in RULES.items():
        rule_settings = (settings or {}).get(name, RuleSettings())
        if rule_settings.mode == "off":
            _release_all(name, measures, actions, key_prefix(pool), evidence.now_s, steps)
            continue
        for new in list(rule(evidence, measures)):
            old = measures.get(new.key)
            if rule_settings.mode != "auto" and old is not None and _adds_nothing(old, new):
                continue
            if new.phase is MeasurePhase.ON and (old is None or old.phase is MeasurePhase.OVER):
                reason = _over_budget(name, rule_settings, measures, started)
                if reason is not None:
                    if new.key not in refused:
                        refused[new.key] = evidence.now_s
                        steps.append(_step(old, new, f"not done: {reason}"))
                    continue
                started.append([name, evidence.now_s])
            new, note = _carry_out(actions, key_prefix(pool), old, new, rule_settings)
            measures[new.key] = new
            steps.append(_step(old, new, note))
            if emit is not None and rule_settings.mode == "auto":
                emit(EVENT, steps[-1])
        _extend(name, measures, actions, key_prefix(pool))
        for over in _ended_stops(name, measures, actions, evidence.now_s, again=rule_settings.again):
            steps.append(_step(measures[over.key], over, ""))
            measures[over.key] = over
    kept = {
        key: s for key, s in measures.items() if s.phase is not MeasurePhase.OVER or evidence.now_s < s.phase_ends_s
    }
    if steps or kept != before:
        record = {
            "standing": [s.to_record() for s in kept.values()],
            "begun": started,
            "refused": refused,
            "steps": steps,
            "at_s": evidence.now_s,
        }
        history.append(KIND, pool, evidence.now_s, record)
    return steps


def _read_last(
    history: HistoryStore, pool: str, since_s: float = -math.inf
) -> tuple[dict[str, MeasureInForce], list[list[Any]], dict[str, float]]:
    """Return what the last pass recorded: measures by key, and those started and refused since (with rule and time)."""

    def read(record: Mapping[str, Any]) -> tuple[dict[str, MeasureInForce], list[list[Any]], dict[str, float]]:
        measures = {found.key: found for found in read_each(KIND, record["standing"], MeasureInForce.from_record)}
        started = [[str(rule), float(at_s)] for rule, at_s, *_ in record.get("begun", ()) if at_s > since_s]
        refused = {str(key): float(at_s) for key, at_s in record.get("refused", {}).items() if at_s > since_s}
        return measures, started, refused

    return read_latest(history, KIND, pool, read) or ({}, [], {})


def undo_measure(history: HistoryStore, actions: PreventionActions, pool: str, key: str, now_s: float) -> int:
    """Undo one measure by its key, "RULE SUBJECT"; it does not come back for what it was about.

    Returns:
        The number of deployments or runs that are as before.

    Raises:
        UnknownNameError: No measure of that key is in force.
        InvalidInputError: Nothing can undo it.
        OrchestratorUnavailableError: Prefect cannot be asked.
    """
    measures, started, refused = _read_last(history, pool)
    standing = [name for name, entry in measures.items() if entry.phase is not MeasurePhase.OVER]
    if key not in standing:
        raise UnknownNameError("measure in force", key, standing)
    old = measures[key]
    if old.measure.lever in _IRREVERSIBLE:
        raise InvalidInputError("measure", key, f"cannot be undone: {old.measure.lever} is over once it is done")
    done: tuple[str, ...] = ()
    if old.written:
        is_cancel = old.measure.lever is Lever.CANCEL
        done = actions.bring_back(old.measure.runs) if is_cancel else actions.release(key_prefix(pool) + key)
    over = old.with_phase(MeasurePhase.OVER, now_s, UNDONE, wait_s=DAY_S)
    measures[key] = over
    record = {
        "standing": [entry.to_record() for entry in measures.values()],
        "begun": started,
        "refused": refused,
        "steps": [_step(old, over, "")],
        "at_s": now_s,
    }
    history.append(KIND, pool, now_s, record)
    return len(done)


def undo_prevention(history: HistoryStore, actions: PreventionActions, pool: str, now_s: float) -> tuple[str, ...]:
    """Revert everything that measures have changed in Prefect; returns the keys that were released.

    Works without the history, because the original settings are stored in Prefect.
    """
    released = tuple(key for key in actions.in_force() if key.startswith(key_prefix(pool)))
    for key in released:
        actions.release(key)
    if read_measures(history, pool):
        history.append(KIND, pool, now_s, {"standing": [], "steps": [], "at_s": now_s})
    return released


def _adds_nothing(old: MeasureInForce, new: MeasureInForce) -> bool:
    """Return whether it is recorded already, and only that."""
    return not old.written and new.phase is old.phase and new.measure == old.measure


def _over_budget(
    name: str, settings: RuleSettings, measures: Mapping[str, MeasureInForce], started: list[list[Any]]
) -> str | None:
    in_force = sum(s.rule == name and s.phase is not MeasurePhase.OVER for s in measures.values())
    if in_force >= settings.most:
        return f"{in_force} measures of this rule are in force, its budget is {settings.most}"
    today = sum(row[0] == name for row in started)
    if today >= settings.per_day:
        return f"{today} measures of this rule within a day, its budget is {settings.per_day}"
    return None


def _carry_out(
    actions: PreventionActions, prefix: str, old: MeasureInForce | None, new: MeasureInForce, settings: RuleSettings
) -> tuple[MeasureInForce, str]:
    """Carry out a new phase of a measure; returns the measure to record, and a note."""
    was_written = old is not None and old.written
    if new.phase is MeasurePhase.OVER:
        if was_written and new.measure.lever not in _ENDS_AS_IT_IS:
            try:
                actions.release(prefix + new.key)
            except OrchestratorError as error:  # it stays in force; the next pass tries again
                assert old is not None
                return old, f"could not be undone: {error}"
        return replace(new, written=was_written), ""
    if settings.mode != "auto" and not was_written:
        return replace(new, written=False), "only recorded"
    try:
        done = _apply(actions, prefix + new.key, old, new)
    except OrchestratorError as error:
        return replace(new, written=was_written), f"could not be done: {error}"
    if not done:
        return replace(new, written=was_written), "there is no setting for it here: a person is needed"
    return replace(new, written=True), ""


def _apply(actions: PreventionActions, key: str, old: MeasureInForce | None, new: MeasureInForce) -> bool:
    measure = new.measure
    if new.phase is MeasurePhase.PROBING:
        if measure.lever is Lever.HOLD:
            return bool(actions.share(key, measure.deployments, 1))
        actions.release(key)
        return True
    if measure.lever is Lever.HOLD:
        if old is not None and old.phase is MeasurePhase.PROBING:
            actions.release(key)
        return bool(actions.hold(key, measure.deployments))
    if measure.lever is Lever.SHARE:
        return bool(actions.share(key, measure.deployments, int(measure.amount)))
    if measure.lever is Lever.RESIZE:
        return bool(actions.resize(key, measure.deployments, measure.amount))
    if measure.lever is Lever.AVOID:
        return measure.host is not None and bool(actions.avoid(key, measure.deployments, measure.host))
    if measure.lever is Lever.PATIENCE:
        actions.add_retries(key, measure.deployments, int(measure.amount))
        return True
    if measure.lever is Lever.CANCEL:
        before = set() if old is None or not old.written else set(old.measure.runs)
        return bool(actions.cancel([run for run in measure.runs if run not in before], new.why))
    if measure.lever is Lever.POSTPONE:
        return bool(actions.postpone(measure.runs, new.since_s + measure.amount))
    if measure.lever is Lever.STOP:
        return sum(actions.stop(run, new.why) for run in measure.runs) > 0
    if measure.lever is Lever.ROLL_BACK:
        return actions.roll_back(measure.deployments[0], measure.version)
    return False


def _extend(name: str, measures: Mapping[str, MeasureInForce], actions: PreventionActions, prefix: str) -> None:
    """Apply measures that change single runs to the runs created since."""
    for entry in measures.values():
        if (
            entry.rule == name
            and entry.written
            and entry.phase is MeasurePhase.ON
            and entry.measure.lever is Lever.PATIENCE
        ):
            try:
                actions.add_retries(prefix + entry.key, entry.measure.deployments, int(entry.measure.amount))
            except OrchestratorError:
                return  # the next pass tries again


def _ended_stops(
    name: str, measures: Mapping[str, MeasureInForce], actions: PreventionActions, now_s: float, *, again: bool
) -> list[MeasureInForce]:
    """Return, as over, the stops of a rule whose runs are known to have ended; with `again` they were started anew."""
    over = []
    for entry in measures.values():
        if (
            entry.rule == name
            and entry.written
            and entry.phase is MeasurePhase.ON
            and entry.measure.lever is Lever.STOP
            and entry.since_s != now_s  # not of this pass; clocks of two passes may differ by a second
        ):
            try:
                ended = all(actions.finish_stop(run, again=again) for run in entry.measure.runs)
            except OrchestratorError:
                break  # the next pass tries again
            if ended:
                why = "its process has ended" + (", and it was started again" if again else "")
                over.append(entry.with_phase(MeasurePhase.OVER, now_s, why, wait_s=DAY_S))
    return over


def _release_all(
    name: str,
    measures: dict[str, MeasureInForce],
    actions: PreventionActions,
    prefix: str,
    now_s: float,
    steps: list[dict[str, Any]],
) -> None:
    """End all measures of a rule that has been switched off."""
    for key, old in list(measures.items()):
        if old.rule == name and old.phase is not MeasurePhase.OVER:
            over = old.with_phase(MeasurePhase.OVER, now_s, "the rule is switched off", wait_s=0.0)
            measures[key], note = _carry_out(actions, prefix, old, over, RuleSettings(mode="off"))
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

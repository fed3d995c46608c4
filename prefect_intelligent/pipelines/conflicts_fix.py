"""Apply the safe fixes of findings: shift schedules, set limits, pause duplicates, inherit prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.conflicts import Finding, Fix
from prefect_intelligent.pipelines.project_file import with_terms
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, ResourceChange
from prefect_intelligent.pipelines.rollout.transactions import Transactions


def apply_fixes(transactions: Transactions, findings: Iterable[Finding], project_file: Path) -> list[str]:
    """Apply all safe fixes in one transaction and return what was done, one line each.

    Args:
        transactions: Writes to Prefect.
        findings: Findings with or without a fix.
        project_file: Inherited prices are written into it.
    """
    done: list[str] = []
    before: dict[str, Mapping[str, Any]] = {}
    after: dict[str, dict[str, Any]] = {}
    text = project_file.read_text() if project_file.is_file() else ""
    new_text = text
    for finding in findings:
        fix = finding.fix
        if fix is None or not fix.safe:
            continue
        if fix.kind == "inherit-value":
            with suppress(InvalidInputError):  # terms in an inline table cannot be extended: the finding stays
                new_text = with_terms(new_text, fix.deployment, "late_usd_per_hour", fix.value)
                done.append(f"{fix.deployment} is priced at {fix.value:g} USD/h in {project_file.name}")
            continue
        if fix.deployment not in before:
            stored = transactions.server.read(DEPLOYMENT + fix.deployment)
            if stored is None:
                continue
            before[fix.deployment], after[fix.deployment] = stored, dict(stored)
        line = _fix(after[fix.deployment], fix)
        if line is not None:
            done.append(line)
    changes = [
        ResourceChange(resource=DEPLOYMENT + name, before=before[name], after=after[name])
        for name in sorted(before)
        if before[name] != after[name]
    ]
    if changes:
        transactions.commit("graph check --fix", changes)
    if new_text != text:
        draft = project_file.with_suffix(".draft")
        draft.write_text(new_text)
        draft.replace(project_file)
    return done


def _fix(content: dict[str, Any], fix: Fix) -> str | None:
    """Change a deployment's content in place and return a line that says so; None if it cannot be done safely."""
    if fix.kind == "set-limit":
        content["concurrency_limit"] = int(fix.value)
        return f"{fix.deployment} is limited to {int(fix.value)} runs"
    schedules = [dict(schedule) for schedule in content["schedules"]]
    if fix.kind == "pause-schedule":
        schedules[int(fix.value)]["active"] = False
        content["schedules"] = schedules
        return f"schedule {int(fix.value) + 1} of {fix.deployment} is switched off"
    shifted = [shift_schedule(schedule["schedule"], fix.value) for schedule in schedules]
    if any(schedule is None for schedule in shifted):
        return None
    content["schedules"] = [{**old, "schedule": new} for old, new in zip(schedules, shifted, strict=True)]
    return f"schedules of {fix.deployment} are {fix.value:g} s later"


def shift_schedule(schedule: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
    """Return a schedule that starts later; None for kinds that cannot be shifted by editing their fields.

    A time of day can be shifted (past midnight only if it starts every day), a minute of every hour, and an interval.

    Args:
        schedule: As Prefect's API gives it.
        seconds: A whole number of minutes.
    """
    if "interval" in schedule:
        anchor = datetime.fromisoformat(str(schedule["anchor_date"])) + timedelta(seconds=seconds)
        return {**schedule, "anchor_date": anchor.isoformat()}
    fields = str(schedule.get("cron", "")).split()
    if len(fields) != 5 or not fields[0].isdigit():
        return None
    every_day = fields[2:] == ["*", "*", "*"]
    if fields[1] == "*":
        minute = (int(fields[0]) + round(seconds / 60)) % 60
        return None if minute == int(fields[0]) else {**schedule, "cron": " ".join([str(minute), *fields[1:]])}
    if not fields[1].isdigit():
        return None
    minutes = int(fields[1]) * 60 + int(fields[0]) + round(seconds / 60)
    if minutes >= 24 * 60 and not every_day:
        return None
    minutes %= 24 * 60
    return {**schedule, "cron": " ".join([str(minutes % 60), str(minutes // 60), *fields[2:]])}

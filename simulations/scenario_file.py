"""Write a scenario as the TOML file that `scenario.load_scenario` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from simulations.scenario import ARRIVALS
from simulations.workload import Scenario, Source

_KINDS = {kind: name for name, kind in ARRIVALS.items()}


def write_scenario(path: Path, scenario: Scenario, comments: Iterable[str] = ()) -> None:
    """Write the file, atomically.

    Args:
        path: The file; its stem is the name of the scenario.
        scenario: What is written.
        comments: Comment lines at its beginning.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(as_toml(scenario, comments), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def as_toml(scenario: Scenario, comments: Iterable[str] = ()) -> str:
    """The text of the file, without values that are the default."""
    lines = [f"# {comment}" for comment in comments]
    lines += _lines(_changed(scenario, "name", "pools", "sources", "resources"))
    for pool in scenario.pools:
        values = _changed(pool, "queues", "prices", "workers")
        if pool.workers:
            values["workers"] = [_changed(worker) for worker in pool.workers]
        values["prices"] = _changed(pool.prices)
        values["queues"] = [_changed(queue) for queue in pool.queues]
        lines += ["", "[[pools]]", *_lines(values)]
    for resource in scenario.resources:
        lines += ["", "[[resources]]", *_lines(_changed(resource))]
    for source in scenario.sources:
        lines += ["", "[[deployments]]", *_lines(_deployment(source))]
    return "\n".join(lines) + "\n"


def _deployment(source: Source) -> dict[str, Any]:
    values = _changed(source.terms) | {"duration": _changed(source.duration)}
    if source.arrivals is not None:
        values["arrivals"] = {"kind": _KINDS[type(source.arrivals)]} | _changed(source.arrivals)
    if source.after:
        values["after"] = source.after
    if source.called_by is not None:
        values |= {"called_by": source.called_by, "called_times": source.called_times}
    if source.deadline is not None:
        values["deadline"] = str(source.deadline)
    for name in ("estimate_bias", "estimate_noise"):
        if getattr(source, name) != 0:
            values[name] = getattr(source, name)
    return values


def _changed(item: Any, *without: str) -> dict[str, Any]:
    """The fields of a dataclass that have no default or differ from it."""
    found = {}
    for field in fields(item):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = getattr(item, field.name)
        if field.name not in without and value is not None and value != default:
            found[field.name] = value
    return found


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in values.items()]


def _value(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    number = float(value)
    if math.isfinite(number) and number == int(number) and abs(number) < 1e15:
        return str(int(number)) if isinstance(value, int) else repr(number)
    return repr(number)

"""A settings file to begin with: every setting with its meaning and its default, commented out."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from prefect_intelligent.settings.values import GuardSection, PoolSettings, PriceSettings, Settings

_WIDTH = 110


def settings_template(pool: str) -> str:
    """The text of a `prefect-intelligent.toml` for a work pool; what is not commented out is `pool`."""
    lines = [
        "# Settings of prefect-intelligent. Flags and variables (PREFECT_INTELLIGENT_...) go before this file;",
        "# `prefect-intelligent config` shows what is in force and what set it. Lines that begin with #: are defaults.",
        "",
        *_about(Settings.model_fields["pool"].description),
        f"pool = {_toml(pool)}",
        "",
    ]
    lines += [*_fields(Settings, but="pool"), ""]
    for section, model in (("prices", PriceSettings), ("guard", GuardSection)):
        lines += [*_about(Settings.model_fields[section].description), f"[{section}]", *_fields(model), ""]
    lines += ["# What is different for this pool.", f"[pools.{_toml(pool)}]", *_fields(PoolSettings)]
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], but: str | None = None) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name != but and (field.default is None or _toml(field.default) is not None):
            yield from _about(field.description)
            yield f"#: {name} = {'(none)' if field.default is None else _toml(field.default)}"


def _about(description: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(description or "", _WIDTH)]


def _toml(value: Any) -> str | None:
    """A value as TOML writes it; None if it is a table, which has a section of its own."""
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False)  # for these, JSON is TOML
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return None

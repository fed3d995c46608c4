"""The reference pages that are made from the code: `python -m tests.acceptance.reference_pages` writes them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from prefect_intelligent.cli import _COMMANDS
from prefect_intelligent.settings import Settings

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference"


def settings_page() -> str:
    """Every setting with its default and its meaning."""
    lines = [
        "# Settings",
        "",
        "A flag beats the environment, the environment beats the file, the file beats the default.",
        "`prefect-intelligent config` shows every value and what set it.",
        "",
        "* **Environment**: `PREFECT_INTELLIGENT_` and the name in capitals, two underscores for a dot:",
        "  `PREFECT_INTELLIGENT_PRICES__IDLE_FRACTION=0`. Tables such as `pools` take JSON.",
        "* **File**: `--config FILE` or `PREFECT_INTELLIGENT_CONFIG`; else `prefect-intelligent.toml`, or the table",
        "  `[tool.prefect-intelligent]` of `pyproject.toml`, in the working directory or a folder above it.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {_shown(default)} | {meaning} |" for name, default, meaning in _settings(Settings, "")),
        "",
    ]
    return "\n".join(lines)


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name}.")
            continue
        inner = get_args(kind) if get_origin(kind) is dict else ()
        if inner and isinstance(inner[1], type) and issubclass(inner[1], BaseModel):
            yield from _settings(inner[1], f"{prefix}{name}.<name>.")
            continue
        shown = f"{prefix}{name}.<name>" if inner else prefix + name
        yield shown, field.default, field.description or ""


def _shown(value: object) -> str:
    if value is None or value == {}:
        return "-"
    return f"`{'true' if value is True else 'false' if value is False else value}`"


def cli_page() -> str:
    """Every command with its options."""
    lines = [
        "# Command line",
        "",
        "`prefect-intelligent COMMAND ...`; `--help` on each. Exit codes: 0 fine, 1 a finding, 2 what was typed",
        "cannot be used (one line on stderr, nothing written).",
        "",
    ]
    for name in _COMMANDS:
        parser = argparse.ArgumentParser(
            prog=f"prefect-intelligent {name}", description=_COMMANDS[name], add_help=False
        )
        import_module(f"prefect_intelligent.cli.{name}".replace("-", "_")).configure(parser)
        lines.extend(_command(parser, 2))
    return "\n".join(lines)


def _command(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield f"{'#' * level} {parser.prog.removeprefix('prefect-intelligent ')}"
    yield ""
    if parser.description:
        yield parser.description
        yield ""
    plain = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    ]
    if plain:
        yield "| argument | meaning |"
        yield "|---|---|"
        for action in plain:
            yield f"| `{_words(action)}` | {(action.help or '').replace('|', chr(92) + '|')} |"
        yield ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _command(sub, level + 1)


def _words(action: argparse.Action) -> str:
    value = action.metavar or (",".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if isinstance(value, tuple):
        value = " ".join(value)
    value = str(value).replace("|", "\\|")
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def pages() -> dict[str, str]:
    """File name to text of every page."""
    return {"settings.md": settings_page(), "cli.md": cli_page()}


if __name__ == "__main__":
    for file, text in pages().items():
        (PAGES / file).write_text(text)

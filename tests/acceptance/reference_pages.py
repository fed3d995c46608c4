"""The reference pages that are made from the code: `python -m tests.acceptance.reference_pages` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import Argument
from pydantic import BaseModel

from prefect_intelligent.cli import COMMANDS
from prefect_intelligent.cli.parsing import application
from prefect_intelligent.settings import Settings
from prefect_intelligent.settings.schema import settings_schema

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
        "* **Editor**: `prefect-intelligent config --schema` prints the file's [JSON schema](settings.schema.json);",
        "  an editor with Taplo completes and checks a file that begins with `#:schema ./settings.schema.json`.",
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
        "cannot be used (one line on stderr, nothing written), 3 a server that is needed does not answer.",
        "`--install-completion` makes the shell complete it.",
        "",
    ]
    for commands in COMMANDS.values():
        for name in commands:
            lines.extend(_command([name]))
    return "\n".join(lines)


def _command(words: list[str]) -> Iterator[str]:
    _, apps, _ = application().parse_commands(words)
    yield f"{'#' * (len(words) + 1)} {' '.join(words)}"
    yield ""
    yield apps[-1].help
    yield ""
    if apps[-1].default_command is not None:
        yield "| argument | meaning |"
        yield "|---|---|"
        with application().app_stack(apps):
            arguments = apps[-1].assemble_argument_collection()
        for argument in arguments:
            yield f"| `{_escaped(_words(argument))}` | {_escaped(argument.parameter.help or '')} |"
        yield ""
    for word in apps[-1]:
        if not word.startswith("-"):
            yield from _command([*words, word])


def _words(argument: Argument) -> str:
    value = ",".join(argument.get_choices() or ()) or argument.parameter.metavar
    if argument.index is not None:
        return value or argument.name
    return ", ".join(argument.names) + (f" {value}" if value else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def pages() -> dict[str, str]:
    """File name to text of every page."""
    return {
        "settings.md": settings_page(),
        "settings.schema.json": json.dumps(settings_schema(), indent=2) + "\n",
        "cli.md": cli_page(),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        (PAGES / file).write_text(text)

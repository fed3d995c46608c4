"""Options that several commands share, how settings are read with them, and how sub-commands are added."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, Group, Parameter, Token

from prefect_intelligent.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from prefect_intelligent.settings import Loaded, Settings


def _whole(_: type, tokens: Sequence[Token]) -> int:
    return int(tokens[0].value)  # cyclopts would round 1.5


ARGUMENTS = Group("Arguments", sort_key=0)
OPTIONS = Group("Options", sort_key=1)
_COMMON = Group("Common options", sort_key=2)
_Command = TypeVar("_Command", bound=Callable[..., int])

Config = Annotated[
    str | None,
    Parameter(name="--config", metavar="FILE", group=_COMMON, help="settings file to read instead of looking for one"),
]
Json = Annotated[
    bool, Parameter(name="--json", group=_COMMON, help="print one JSON object instead of a table; also --output json")
]
Output = Annotated[
    Literal["json", "github"] | None,
    Parameter(
        name="--output", metavar="FORM", group=_COMMON, help="json, as --json; github, annotations of a pull request"
    ),
]
Pool = Annotated[
    str | None, Parameter(name="--pool", metavar="NAME", group=_COMMON, help="work pool; without it the setting `pool`")
]
Source = Annotated[Path, Parameter(name="--source", metavar="FOLDER", help="the code (default: here)")]
AllowDirty = Annotated[bool, Parameter(name="--allow-dirty", help="take uncommitted changes and record them")]
Int = Annotated[int, Parameter(converter=_whole)]
Seed = Annotated[Int, Parameter(metavar="SEED")]


def subcommands(name: str, summary: str | None = None, of: App | None = None) -> App:
    """A command that has sub-commands, itself a sub-command of another if one is given."""
    order = None if of is None else _next(of)
    made = App(
        name=name, help=summary, sort_key=order, version_flags=[], group_arguments=ARGUMENTS, group_parameters=OPTIONS
    )
    if of is not None:
        of.command(made)
    return made


def add(command: App, name: str, summary: str) -> Callable[[_Command], _Command]:
    """Decorates the function of a sub-command; help pages show them in the order of their addition."""
    return command.command(name=name, help=summary, sort_key=_next(command))


def add_module(command: App, name: str, summary: str, module: str) -> None:
    """Add the function `command` of another module of `cli`, which is imported when it is asked for."""
    command.command(f"{__package__}.{module}:command", name=name, help=summary, sort_key=_next(command))


def _next(command: App) -> int:
    return sum(1 for _ in command)


def check_seed(seed: int) -> None:
    """Refuse a seed that the twin cannot take.

    Raises:
        InvalidInputError: It is negative or too large.
    """
    if not 0 <= seed < 2**63:
        raise InvalidInputError("--seed", seed, "must be 0 or more, and less than 2**63")


def read_settings(config: str | None, **flags: object) -> Loaded:
    """The settings, with those that were given on the command line; None is not given."""
    from prefect_intelligent.settings import load_settings

    loaded = load_settings(flags, config=config)
    for name in ("policy", "rule"):
        if name in loaded.origins:
            _check_policy(name, getattr(loaded.settings, name), loaded.origin(name))
    return loaded


def _check_policy(name: str, text: str, place: str) -> None:
    """Refuse a policy that no word, rule or folder has; what is in a folder is read when it is needed."""
    from prefect_intelligent.policy import parse_policy

    kind, _, inner = text.partition(":")
    if name == "policy" and kind == "planner":
        text = inner or "shipped"
    if text in ("shipped", "champion") or os.sep in text or Path(text).is_dir():
        return
    try:
        parse_policy(text)
    except UnknownNameError as error:
        words = ("shipped", "champion", "planner") if name == "policy" else ("shipped",)
        raise UnknownNameError(
            f"{error.what.removeprefix('unknown ')} ({place})", error.name, (*error.known, *words)
        ) from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{name} ({place})", error.got, error.expected) from None


def chosen_pool(loaded: Loaded) -> str:
    """The work pool that the command is about.

    Raises:
        InvalidInputError: None was named.
    """
    if loaded.settings.pool is None:
        raise InvalidInputError("--pool", None, "name a work pool with --pool or the setting `pool`")
    return loaded.settings.pool


def settings_and_pool(config: str | None, pool: str | None, **flags: object) -> tuple[Settings, str]:
    """The settings, and the work pool that the command is about.

    Raises:
        InvalidInputError: A setting cannot be used, or no pool was named.
    """
    loaded = read_settings(config, pool=pool, **flags)
    return loaded.settings, chosen_pool(loaded)


def read_pairs(option: str, texts: Sequence[str]) -> Mapping[str, Any]:
    """`NAME=JSON` options as a mapping; a value that is not JSON is text.

    Raises:
        InvalidInputError: One has no equals sign.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInputError(option, text, "expected NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, default=str, allow_nan=False))


def tell_finished(title: str | None) -> None:
    """Say on standard error what was finished of a command that had died."""
    if title is not None:
        print(f"finished what an earlier command had begun: {title}", file=sys.stderr)

"""The table of commands as a cyclopts application; an error of parsing is said in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, get_args

from cyclopts import (
    App,
    Argument,
    CoercionError,
    ConsumeMultipleError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from prefect_intelligent.cli import COMMANDS, OPTIONS, PROGRAM, SUMMARY, help_page, options
from prefect_intelligent.errors import (
    InvalidInputError,
    OrchestratorUnavailableError,
    PrefectIntelligentError,
    TrackerUnavailableError,
    UnknownNameError,
    missing_extra,
)

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions, RenderableType


_WRITES_FILE = ("quality", "contract", "new")
"""Its `--output` names a file."""


@cache
def application() -> App:
    """All commands; none of them is imported before it is asked for."""
    program = App(
        name=PROGRAM,
        help=SUMMARY,
        help_format="plaintext",
        help_formatter=_HelpPages(),
        version_flags=[],
        group_arguments=options.ARGUMENTS,
        group_parameters=options.OPTIONS,
        default_parameter=Parameter(negative=(), metavar="", show_default=False, allow_repeating=True),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for place, (title, commands) in enumerate(COMMANDS.items()):
        panel = Group(title, sort_key=place)
        for order, (name, summary) in enumerate(commands.items()):
            path = f"{__package__}.{name.replace('-', '_')}:command"
            program.command(path, name=name, help=summary, group=panel, sort_key=order)
    for flag, function in (("--install-completion", "install"), ("--show-completion", "show")):
        program.command(f"{__package__}.completion:{function}", name=flag, help=OPTIONS[flag], group=options.OPTIONS)
    return program


def run(words: Sequence[str]) -> int:
    """Parse, run the command, and return the exit code."""
    program, words = application(), _as_prefect_says(words)
    chain, apps, rest = program.parse_commands(words)
    if not rest and apps[-1].default_command is None:
        return _refuse(InvalidInputError("command", None, f"name one of {', '.join(_names(apps[-1]))}"), chain)
    try:
        code = program(words)
    except CycloptsError as error:
        return _refuse(_translated(error, apps[-1]), chain)
    except PrefectIntelligentError as error:
        print(f"error: {_without_secrets(error)}", file=sys.stderr)
        return 3 if isinstance(error, OrchestratorUnavailableError | TrackerUnavailableError) else 2
    except ModuleNotFoundError as error:
        if (hint := missing_extra(" ".join(chain), error)) is None:
            raise
        print(f"error: {hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return int(code or 0)


def _as_prefect_says(words: Sequence[str]) -> list[str]:
    """`--output json` means what `--json` means, as in Prefect's own commands."""
    if tuple(words[:3]) == _WRITES_FILE or words[:1] in (["--install-completion"], ["--show-completion"]):
        return list(words)
    told: list[str] = []
    for word in words:
        if told and told[-1] == "--output" and word == "json":
            told[-1] = "--json"
        else:
            told.append("--json" if word == "--output=json" else word)
    return told


def _refuse(error: object, chain: Sequence[str]) -> int:
    """Say what cannot be parsed, and where help is."""
    text, where = _without_secrets(error), f"see `{' '.join((PROGRAM, *chain))} --help`"
    print(f"error: {text} {where.capitalize()}" if text.endswith("?") else f"error: {text}; {where}", file=sys.stderr)
    return 2


def _without_secrets(error: object) -> str:
    from prefect_intelligent.domain.secrets import mask_secrets  # only where there is an error

    return mask_secrets(str(error))


def _translated(error: CycloptsError, app: App) -> object:
    """An error of cyclopts as one of ours: what, which, got, and what to do."""
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        word = error.unused_tokens[0]
        if word.startswith("-"):
            return InvalidInputError("option", word, "the options of a command come after its name")
        return UnknownNameError("command", word, _names(app))
    if isinstance(error, UnknownOptionError):
        known = [name for argument in error.argument_collection for name in argument.names if name.startswith("--")]
        return UnknownNameError("option", error.token.keyword or error.token.value, [*known, "--help"])
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return InvalidInputError("argument", error.unused_tokens[0], "is one more than the command takes")
    if error.argument is not None:
        name = error.argument.name
        if isinstance(error, CoercionError) and error.token is not None:
            return InvalidInputError(name, error.token.value, _expected(error.argument))
        if isinstance(error, ConsumeMultipleError):
            return InvalidInputError(name, f"{error.actual_count} values", "takes one at most")
        if isinstance(error, MissingArgumentError):
            return InvalidInputError(name, None, "needs a value" if error.keyword else "is needed")
    return " ".join(str(error).split()).rstrip(".")


def _expected(argument: Argument) -> str:
    choices = argument.get_choices()
    if choices:
        return f"must be one of {', '.join(choices)}"
    kinds = (argument.hint, *get_args(argument.hint))
    return "must be a whole number" if int in kinds else "must be a number" if float in kinds else "cannot be read"


def _names(app: App) -> list[str]:
    """The commands of a program or of a command."""
    return [name for name in app if not name.startswith("-")]


class _HelpPages:
    """Lays out the pages of commands as the page of the program is; a help formatter of cyclopts."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: RenderableType) -> None:
        """What to type."""
        _write(console, help_page.head(_plain(usage, console)))

    def render_description(self, console: Console, options: ConsoleOptions, description: RenderableType) -> None:
        """What the command is for."""
        _write(console, "\n" + help_page.paragraph(_plain(description, console)))

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """One group of commands, arguments or options."""
        rows = [(_label(entry), _meaning(entry, console)) for entry in panel.entries]
        if rows:
            _write(console, "\n" + help_page.panel(_plain(panel.title, console), rows))


def _write(console: Console, text: str) -> None:
    console.print(text, end="", markup=False, highlight=False, soft_wrap=True)


def _label(entry: HelpEntry) -> str:
    """What is typed: names and the shape of the value."""
    value = f"{{{','.join(entry.choices)}}}" if entry.choices else entry.metavar
    name = entry.positional_label or ", ".join(entry.all_options)
    return f"{name} {value}" if value else name


def _meaning(entry: HelpEntry, console: Console) -> str:
    text = _plain(entry.description, console)
    return f"{text} (required)".lstrip() if entry.required and not entry.positional_label else text


def _plain(renderable: RenderableType, console: Console) -> str:
    """The words of what cyclopts would print, on one line."""
    segments = console.render(renderable, console.options.update(width=10_000))
    return " ".join("".join(segment.text for segment in segments).split())

"""Where settings come from, and what is wrong with them: flags, environment, file, default, in this order."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.settings.values import (
    ENV_PREFIX,
    BoundSettings,
    PoolSettings,
    PreventionRuleName,
    PreventionSettings,
    Settings,
)

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
SCALE_TOKEN_VARIABLE = f"{ENV_PREFIX}SCALE_TOKEN"
_OTHER_VARIABLES = (CONFIG_VARIABLE, SCALE_TOKEN_VARIABLE)
FILE_NAME = "prefect-intelligent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with where they come from.

    Attributes:
        settings: The settings.
        file: The file that was read, if there was one.
        origins: Dotted name to the flag, variable or line of a file that set it; what is not here is the default.
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        """Where the value of a dotted name comes from, in words."""
        return self.origins.get(name, "default")


def load_settings(
    flags: Mapping[str, Any] | None = None, *, config: str | None = None, start: Path | None = None
) -> Loaded:
    """Read the settings.

    Args:
        flags: Values given on the command line, by name; None means that the flag was not given.
        config: A file to read instead of looking for one.
        start: Where the search for a file begins; the working directory if None.

    Raises:
        InvalidInputError: A value or the file cannot be used; says which, where and what to do.
        UnknownNameError: There is no such setting; says the nearest that there is.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    source = _read_file(config or os.environ.get(CONFIG_VARIABLE), start or Path.cwd())
    _refuse_unknown_variables()

    class Source(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=dict(source.values))

    try:
        environment = EnvSettingsSource(Settings)()
    except ValueError as error:  # a variable that should hold JSON does not
        raise InvalidInputError(f"environment variables {ENV_PREFIX}*", str(error), "expected JSON") from error
    origins = {name: source.place(name) for name in _leaves(source.values)}
    origins |= {name: ENV_PREFIX + name.upper().replace(".", "__") for name in _leaves(environment)}
    origins |= {name: f"--{name.removesuffix('_s').replace('_', '-')}" for name in _leaves(given)}
    try:
        settings = Source(**given)
    except ValidationError as error:
        raise _translated(error, origins, source) from None
    return Loaded(settings=Settings.model_construct(**dict(settings)), file=source.path, origins=origins)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What a settings file holds, and on which line."""

    path: Path | None = None
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    def place(self, name: str) -> str:
        """File and line that set a dotted name."""
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            if (line := self.lines.get(".".join(parts[:end]))) is not None:
                return f"{self.path}:{line}"
        return str(self.path)


_TABLE = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_TOOL = "tool.prefect-intelligent"


def _read_file(asked: str | None, start: Path) -> _File:
    """The file asked for, or the nearest one; empty if there is none."""
    if asked is not None:
        path = Path(asked).expanduser()
        if not path.is_file():
            raise InvalidInputError("settings file", asked, "no such file; --config must name a TOML file")
        return _parse(path, _text(path), inside_pyproject=path.name == "pyproject.toml")
    for folder in (start, *start.parents):
        if (path := folder / FILE_NAME).is_file():
            return _parse(path, _text(path))
        if (path := folder / "pyproject.toml").is_file() and f"[{_TOOL}" in (text := _text(path)):
            return _parse(path, text, inside_pyproject=True)
    return _File(values={}, lines={})


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("settings file", str(path), f"cannot be read as text: {error}") from error


def _parse(path: Path, text: str, *, inside_pyproject: bool = False) -> _File:
    try:
        values: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        place = f"{path}:{found[1] if found else max(1, text.count(chr(10)))}"
        raise InvalidInputError("settings file", place, f"is not TOML: {error}") from error
    if inside_pyproject:
        values = values.get("tool", {}).get("prefect-intelligent", {})
    return _File(path=path, values=values, lines=dict(_lines(text, f"{_TOOL}." if inside_pyproject else "")))


def _lines(text: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Dotted name and line number of each table and key under `prefix`."""
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if (found := _TABLE.match(line)) is not None:
            table = _plain(found[1]) + "."
            name = table[:-1]
        elif (found := _KEY.match(line)) is not None:
            name = table + _plain(found[1])
        else:
            continue
        if name.startswith(prefix):
            yield name.removeprefix(prefix), number


def _plain(name: str) -> str:
    """A TOML key without quotes and blanks."""
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all values in nested tables."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable not in _OTHER_VARIABLES:
            name = variable.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if name not in Settings.model_fields:
                known = [ENV_PREFIX + field.upper() for field in Settings.model_fields]
                raise UnknownNameError("environment variable", variable, [*known, *_OTHER_VARIABLES])


def _translated(error: ValidationError, origins: Mapping[str, str], source: _File) -> InvalidInputError:
    """The first complaint of pydantic as one line of ours."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    name = ".".join(str(part) for part in first["loc"])
    place = origins.get(name) or next((o for n, o in origins.items() if n.startswith(f"{name}.")), None)
    place = place or (source.place(name) if source.path else "settings")
    if first["loc"][-1] == "[key]":
        name = name.removesuffix(".[key]")
        inside = next((o for n, o in origins.items() if n == name or n.startswith(f"{name}.")), place)
        place = source.place(name) if name in source.lines else inside
        return UnknownNameError(
            f"setting ({place})", name, [f"prevention.{rule}" for rule in get_args(PreventionRuleName)]
        )
    if first["type"] == "extra_forbidden":
        return UnknownNameError(f"setting ({place})", name, _names_beside(first["loc"]))
    return InvalidInputError(f"setting {name} ({place})", first["input"], first["msg"][:1].lower() + first["msg"][1:])


def _names_beside(place: Sequence[int | str]) -> list[str]:
    """Dotted names that would have been known where `place` is not."""
    model: type[BaseModel] = Settings
    prefix = ""
    for part in place[:-1]:
        prefix += f"{part}."
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            if annotation in (
                dict[str, PoolSettings],
                dict[str, BoundSettings],
                dict[PreventionRuleName, PreventionSettings],
            ):
                model = get_args(annotation)[1]
            elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return [prefix + name for name in model.model_fields]

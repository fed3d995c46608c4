"""`prefect-intelligent config`: every setting, its value, and what set it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, print_json, read_settings
from prefect_intelligent.domain.secrets import mask_secrets

if TYPE_CHECKING:
    from prefect_intelligent.settings import Loaded


def command(
    *,
    config: Config = None,
    as_json: Json = False,
    schema: Annotated[
        bool, Parameter(help="print the JSON schema of the settings file instead, by which an editor checks it")
    ] = False,
) -> int:
    """Print the settings."""
    if schema:
        from prefect_intelligent.settings.schema import settings_schema

        print_json(settings_schema())
        return 0
    loaded = read_settings(config)
    rows = list(_rows(loaded))
    if as_json:
        print_json(
            {
                "file": None if loaded.file is None else str(loaded.file),
                "settings": {name: {"value": value, "origin": origin} for name, value, origin in rows},
                "paths": {
                    "history": mask_secrets(loaded.settings.history),
                    "spool_dir": str(loaded.settings.spool_dir),
                },
            }
        )
        return 0
    from prefect_intelligent.cli.formatting import say
    from prefect_intelligent.cli.tables import print_table

    where = "" if loaded.file is None else f"{loaded.file.parent}/"  # the title has the whole path
    shown = [
        {"setting": name, "set by": origin.removeprefix(where), "value": "-" if value is None else str(value)}
        for name, value, origin in rows
    ]
    print_table(shown, title=f"Settings ({loaded.file or 'no settings file found'})", text="value")
    say(f"history: {mask_secrets(loaded.settings.history)}\nspool:   {loaded.settings.spool_dir}")
    return 0


def _rows(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value without passwords, and origin of every setting; of pools and resources those that are set."""
    for name, value in _flat(loaded.settings.model_dump(mode="json")):
        yield name, mask_secrets(value) if isinstance(value, str) else value, loaded.origin(name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

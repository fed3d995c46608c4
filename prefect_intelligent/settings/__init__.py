"""Every setting: its type, bounds, default and meaning, where its value comes from, and what is wrong with it.

A value is taken from the flag of a command, else from the environment (`PREFECT_INTELLIGENT_<NAME>`, nested names
joined by two underscores), else from the file, else it is the default. The file is the one given by `--config` or
`PREFECT_INTELLIGENT_CONFIG`, else `prefect-intelligent.toml` or the table `[tool.prefect-intelligent]` of
`pyproject.toml`, looked for in the working directory and its parents.

Read first:
    values.py   the settings as pydantic models, with the meaning of each
    loading.py  flags, environment, file and default in this order, and errors that name the line
    schema.py   the settings file as a JSON schema, by which an editor checks it

Ports: none
Command: `prefect-intelligent config`
How-to: docs/how-to/run-the-controller.md
"""

from prefect_intelligent.settings.loading import CONFIG_VARIABLE, FILE_NAME, Loaded, load_settings
from prefect_intelligent.settings.values import (
    ENV_PREFIX,
    BoundSettings,
    GuardSection,
    Mode,
    PoolSettings,
    PreventionSettings,
    PriceSettings,
    Settings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "ENV_PREFIX",
    "FILE_NAME",
    "BoundSettings",
    "GuardSection",
    "Loaded",
    "Mode",
    "PoolSettings",
    "PreventionSettings",
    "PriceSettings",
    "Settings",
    "load_settings",
]

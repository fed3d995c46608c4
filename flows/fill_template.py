"""Pages of the flows from the templates in `templates/`; every value is escaped unless it is marked as safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def fill_template(name: str, **values: Any) -> str:
    """The page of a template, e.g. "demo.html".

    Raises:
        jinja2.UndefinedError: The template uses a value that is not given.
    """
    return _TEMPLATES.get_template(name).render(**values)

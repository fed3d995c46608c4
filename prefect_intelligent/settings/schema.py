"""The settings file as a JSON schema, by which an editor completes and checks it."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from prefect_intelligent.settings.values import Settings

_TITLE: Final = "Settings of prefect-intelligent"
_DESCRIPTION: Final = "The file prefect-intelligent.toml, or the table [tool.prefect-intelligent] of pyproject.toml."


def settings_schema() -> dict[str, Any]:
    """The schema: every setting with its type, bounds, default and meaning; other keys are refused."""
    schema = Settings.model_json_schema(schema_generator=_ForToml)
    return {"$schema": _ForToml.schema_dialect, **schema, "title": _TITLE, "description": _DESCRIPTION}


class _ForToml(GenerateJsonSchema):
    """Leaves out null, which TOML does not have, and titles that only repeat a name."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        elif isinstance(found.get("default"), dict):
            found["default"] = {name: value for name, value in found["default"].items() if value is not None}
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

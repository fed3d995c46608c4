"""Import a flow in a separate process to read its name, parameters and terms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.adapters.source_archive import unpack

_PROBE: Final = """
import json, sys
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
flow = load_flow_from_entrypoint(sys.argv[1], use_placeholder_flow=False)
found = {"name": flow.name, "schema": parameter_schema(flow).model_dump_for_openapi(), "description": flow.description}
try:
    from prefect_intelligent.flow.decorator import terms_of
    terms = terms_of(flow)
except ImportError:
    terms = None
found["terms"] = None if terms is None else terms.to_dict()
print("\\n" + json.dumps(found, default=str))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDescription:
    """Name, parameters and terms of a flow.

    Attributes:
        name: Name of the flow.
        schema: JSON schema of its parameters, as Prefect stores it.
        description: Its description; None without one.
        terms: Its terms, as `Terms.to_dict` gives them; None without any.
    """

    name: str
    schema: dict[str, Any]
    description: str | None = None
    terms: dict[str, Any] | None = None


def probe(archive: bytes, entrypoint: str, timeout_s: float = 120.0) -> FlowDescription:
    """Import a flow from a packed source tree, as a worker would.

    Raises:
        InvalidInputError: It cannot be imported; the message ends with the last line of the traceback.
    """
    path, _, name = entrypoint.partition(":")
    if not name or not path.endswith(".py"):
        raise InvalidInputError("entrypoint", entrypoint, "expected FILE.py:FLOW, relative to --source")
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-") as scratch:
        folder = Path(scratch) / "source"
        unpack(archive, folder)
        if not (folder / path).is_file():
            raise InvalidInputError("entrypoint", entrypoint, f"there is no {path} in --source (is it ignored by git?)")
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, entrypoint],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "PREFECT_LOGGING_LEVEL": "ERROR"},
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise InvalidInputError("entrypoint", entrypoint, f"the flow cannot be imported: {last}")
        return FlowDescription(**json.loads(done.stdout.strip().splitlines()[-1]))


def environment_lock() -> str:
    """Return installed packages with their versions, one per line, sorted."""
    found = {f"{item.metadata['Name'].lower()}=={item.version}" for item in distributions() if item.metadata["Name"]}
    return "\n".join(sorted(found)) + "\n"

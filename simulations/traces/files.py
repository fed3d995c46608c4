"""Open a trace, plain or gzipped, as numbered lines or as one document."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import yaml

from prefect_intelligent.errors import InvalidInputError

UNREADABLE: Final = "\ufffd"
"""The character by which `errors="replace"` replaces bytes that are not UTF-8."""


def open_text(path: Path, errors: str = "strict") -> IO[str]:
    """The file as text, unpacked if its name ends in .gz; `errors` as in `open`.

    Raises:
        InvalidInputError: There is no such file.
    """
    if not path.is_file():
        raise InvalidInputError("trace", str(path), "there is no such file")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors=errors)
    return path.open(encoding="utf-8", errors=errors)


def head(path: Path, size: int = 4096) -> str:
    """The first characters of the file, to detect its format.

    Raises:
        InvalidInputError: It is not text.
    """
    try:
        with open_text(path, "replace") as file:
            text = file.read(size)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InvalidInputError("trace", str(path), f"is not a text file, plain or gzipped ({error})") from error
    if "\0" in text or 20 * text.count(UNREADABLE) > len(text):
        raise InvalidInputError("trace", str(path), "is not a text file, plain or gzipped")
    return text


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The rows of a CSV file with their line numbers; None for a row with a wrong number of fields or not in UTF-8."""
    with open_text(path, "replace") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        for fields in reader:
            if fields:
                fits = len(fields) == len(names) and not any(UNREADABLE in field for field in fields)
                yield reader.line_num, dict(zip(names, fields, strict=True)) if fits else None


def load_envelope(path: Path, name: str) -> dict[str, Any] | None:
    """The object that the whole file is, if it has a list of that name, as an answer of a REST API has; else None."""
    if f'"{name}"' not in head(path):
        return None
    with open_text(path, "replace") as file, suppress(json.JSONDecodeError):
        found = json.load(file)
        if isinstance(found, dict) and isinstance(found.get(name), list):
            return found
    return None


def numbered_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The objects of a JSON-lines file, or the items of a JSON list, with their numbers; None where unreadable."""
    with open_text(path, "replace") as file:
        first = file.read(1)
        file.seek(0)
        if first == "[":
            for number, item in enumerate(load_json(path), start=1):
                yield number, item if isinstance(item, dict) else None
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    item = json.loads(line) if UNREADABLE not in line else None
                except json.JSONDecodeError:
                    item = None
                yield number, item if isinstance(item, dict) else None


def load_json(path: Path) -> Any:
    """The JSON document.

    Raises:
        InvalidInputError: It is not JSON; says where.
    """
    try:
        with open_text(path) as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{path}:{error.lineno}", error.doc[error.pos : error.pos + 20], f"is not JSON: {error.msg}"
        ) from error


def load_yaml(path: Path) -> list[Any]:
    """The documents of a YAML file.

    Raises:
        InvalidInputError: It is not YAML; says where.
    """
    try:
        with open_text(path) as file:
            return list(yaml.safe_load_all(file))
    except yaml.YAMLError as error:
        raise InvalidInputError("trace", str(path), f"is not YAML: {' '.join(str(error).split())}") from error

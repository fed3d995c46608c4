"""Reads the YAML of a contract as Soda does (YAML 1.2) and refuses what a contract never needs.

Refused are more than 256 KiB, deep nesting, anchors, repeated keys, tags, control characters and environment variables.
As in YAML 1.2, `NO` is a text, `010` is ten and a date is a text. Soda is given the linted tree (`canonical`) and not
the text, so that its own parser cannot read it differently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from prefect_intelligent.errors import InvalidInputError

MAX_BYTES: Final = 256 << 10
MAX_DEPTH: Final = 20
_ENVIRONMENT = re.compile(r"\$\{\s*env\b", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


class ContractError(InvalidInputError):
    """A contract that cannot be used.

    Args:
        where: File and place in it.
        got: What was found there.
        expected: What is expected.
    """


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2; refuses a repeated key in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node)
    return int(digits, {"0o": 8, "0x": 16}.get(digits[:2], 10))


def _real(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)


def read_tree(text: str, source: str) -> dict[str, Any]:
    """The contract as a tree of mappings, lists, texts, numbers, booleans and None.

    Raises:
        ContractError: It is not valid YAML, or holds something that is refused.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise ContractError(source, f"more than {MAX_BYTES} bytes", "a contract is a page or two; split it")
    if not text.strip():
        raise ContractError(source, "nothing", "an empty contract would pass on anything")
    if _ENVIRONMENT.search(text):
        raise ContractError(source, "${env....}", "environment variables could leak; use ${var.NAME}")
    try:
        _scan(text, source)
        tree = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        where = _at(source, getattr(exc, "problem_mark", None))
        raise ContractError(where, getattr(exc, "problem", None) or str(exc), "must be valid YAML") from exc
    except (RecursionError, ValueError, TypeError) as exc:
        if isinstance(exc, ContractError):
            raise
        raise ContractError(source, type(exc).__name__, "must be valid YAML") from exc
    # YAML's escapes ("\\x24{env.X}") have been resolved by now.
    for place, value in _leaves(tree, ""):
        _refuse_leaf(value, f"{source}: {place}" if place else source)
    if not isinstance(tree, dict):
        raise ContractError(source, type(tree).__name__, "must be a mapping with dataset, columns and checks")
    if not isinstance(tree.get("dataset"), str) or not tree["dataset"]:
        raise ContractError(f"{source}: dataset", tree.get("dataset"), "must name the dataset, e.g. ds/main/orders")
    return tree


def canonical(tree: Mapping[str, Any]) -> str:
    """The tree as JSON, which all versions of YAML read in the same way."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=1)


def is_literal_text(text: str) -> bool:
    """Whether a text can be written into a contract as it is: printable, and without variables."""
    return not _UNPRINTABLE.search(text) and "${" not in text


def _scan(text: str, source: str) -> None:
    """Refuse anchors and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ContractError(_at(source, event.start_mark), "a YAML anchor or alias", "write the value out")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ContractError(_at(source, event.start_mark), f"nesting beyond {MAX_DEPTH}", "contracts are flat")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """(place, value) of every scalar of a tree, keys included."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield place, key
            yield from _leaves(value, f"{place}.{key}".lstrip("."))
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from _leaves(item, f"{place}[{i}]")
    else:
        yield place, node


def _refuse_leaf(value: object, where: str) -> None:
    if isinstance(value, str):
        if _ENVIRONMENT.search(value):
            raise ContractError(where, "${env....}", "environment variables could leak; use ${var.NAME}")
        if _UNPRINTABLE.search(value):
            raise ContractError(where, ascii(value), "may not hold control characters")
    elif value is not None and not isinstance(value, bool | int | float):
        raise ContractError(where, type(value).__name__, "must be a text, a number, true, false or null")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ContractError(where, value, "must be finite")


def _at(source: str, mark: Any) -> str:
    return source if mark is None else f"{source}:{mark.line + 1}"

"""Read datasets and `run_deployment` calls from the source of a flow, without running it (AST)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_UNKNOWN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCall:
    """A `run_deployment(...)` call whose name is a literal.

    Attributes:
        name: "flow/deployment".
        waits: Whether it waits for the child; false only for `timeout=0`.
        parameters: Parameters with literal values; None if their names are not literals.
        unknown: Names of the parameters with other values.
        line: Line number, from 1.
    """

    name: str
    waits: bool
    parameters: Mapping[str, Any] | None
    unknown: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSource:
    """Datasets, calls and parameters of one flow function.

    Attributes:
        function: Name of the function, as in an entrypoint.
        inputs: Datasets of `@intelligent(inputs=...)`; None if it declares none.
        outputs: Datasets of `@intelligent(outputs=...)`; None if it declares none.
        batch: Literal of `@intelligent(batch=...)`; None if there is none.
        asset_inputs: Keys of `asset_deps` of the tasks that it calls.
        asset_outputs: Keys that the tasks that it calls materialise.
        calls: `run_deployment` calls, its own and those of functions of the same file that it calls.
        parameters: Names of its parameters.
        line: Line of the function, from 1.
    """

    function: str
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    batch: str | None = None
    asset_inputs: tuple[str, ...] = ()
    asset_outputs: tuple[str, ...] = ()
    calls: tuple[SourceCall, ...] = ()
    parameters: tuple[str, ...] = ()
    line: int = 1


@dataclass(slots=True)
class _Function:
    node: ast.FunctionDef | ast.AsyncFunctionDef
    is_flow: bool = False
    declared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    batch: str | None = None
    asset_inputs: tuple[str, ...] = ()
    asset_outputs: tuple[str, ...] = ()


def read_source(text: str, path: str = "<source>") -> dict[str, FlowSource]:
    """Return the flows of one file by function name.

    Raises:
        SyntaxError: The file is not Python.
    """
    tree = ast.parse(text, filename=path)
    constants = _constants(tree)
    functions = {
        node.name: _describe(node, constants)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    flows = {}
    for name, function in functions.items():
        if not function.is_flow:
            continue
        reached = _reachable(name, functions)
        called = [call for other in sorted(reached) for call in _calls(functions[other].node, constants)]
        arguments = function.node.args
        flows[name] = FlowSource(
            function=name,
            inputs=function.declared.get("inputs"),
            outputs=function.declared.get("outputs"),
            batch=function.batch,
            asset_inputs=tuple(sorted({key for other in reached for key in functions[other].asset_inputs})),
            asset_outputs=tuple(sorted({key for other in reached for key in functions[other].asset_outputs})),
            calls=tuple(sorted(called, key=lambda call: call.line)),
            parameters=tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)),
            line=function.node.lineno,
        )
    return flows


def _name(node: ast.expr) -> str:
    """Return the last part of a name: "run_deployment" of `prefect.deployments.run_deployment`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return module-level names that are bound to a literal or to `Asset(key=literal)`."""
    found: dict[str, Any] = {}
    for node in tree.body:
        target: ast.expr | None = None
        value: ast.expr | None = None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign):
            target, value = node.target, node.value
        if isinstance(target, ast.Name) and value is not None:
            literal = _literal(value, found)
            if literal is not _UNKNOWN:
                found[target.id] = literal
    return found


def _literal(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """Return the value of a literal, a known constant or an `Asset("key")`; `_UNKNOWN` otherwise."""
    if isinstance(node, ast.Name):
        return constants.get(node.id, _UNKNOWN)
    if isinstance(node, ast.Call) and _name(node.func) == "Asset":
        keys = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "key")]
        return _literal(keys[0], constants) if keys else _UNKNOWN
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        items = [_literal(item, constants) for item in node.elts]
        return _UNKNOWN if any(item is _UNKNOWN for item in items) else items
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return _UNKNOWN


def _names(node: ast.expr, constants: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return a list of dataset names; None if it is not literal."""
    value = _literal(node, constants)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def _describe(node: ast.FunctionDef | ast.AsyncFunctionDef, constants: Mapping[str, Any]) -> _Function:
    """Read the decorators of a function."""
    function = _Function(node)
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = _name(call.func if call else decorator)
        if name in ("flow", "intelligent"):
            function.is_flow = True
        if call is None:
            continue
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        if name == "intelligent":
            for side in ("inputs", "outputs"):
                if side in keywords and (names := _names(keywords[side], constants)) is not None:
                    function.declared[side] = names
            batch = _literal(keywords["batch"], constants) if "batch" in keywords else None
            function.batch = batch if isinstance(batch, str) else None
        if name in ("materialize", "task") and "asset_deps" in keywords:
            function.asset_inputs = _names(keywords["asset_deps"], constants) or ()
        if name == "materialize":
            function.asset_outputs = tuple(key for item in call.args for key in _names(item, constants) or ())
    return function


def _reachable(start: str, functions: Mapping[str, _Function]) -> set[str]:
    """Return `start` and the functions of the file that it uses, directly or indirectly (also by `.submit`, `.map`)."""
    seen, stack = {start}, [start]
    while stack:
        for node in ast.walk(functions[stack.pop()].node):
            if isinstance(node, ast.Name) and node.id in functions and node.id not in seen:
                seen.add(node.id)
                stack.append(node.id)
    return seen


def _calls(function: ast.AST, constants: Mapping[str, Any]) -> Iterator[SourceCall]:
    """Yield `run_deployment` and `arun_deployment` calls with a literal name."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or _name(node.func) not in ("run_deployment", "arun_deployment"):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        target = node.args[0] if node.args else keywords.get("name")
        name = _literal(target, constants) if target is not None else _UNKNOWN
        if not isinstance(name, str):
            continue
        parameters, unknown = _parameters(keywords.get("parameters"), constants)
        timeout = _literal(keywords["timeout"], constants) if "timeout" in keywords else None
        yield SourceCall(name=name, waits=timeout != 0, parameters=parameters, unknown=unknown, line=node.lineno)


def _parameters(given: ast.expr | None, constants: Mapping[str, Any]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return parameters with literal values, and the names of the others; None if the names are not literal."""
    if given is None:
        return {}, ()
    if isinstance(given, ast.Call) and _name(given.func) == "dict" and not given.args:
        pairs: list[tuple[Any, ast.expr]] = [(keyword.arg, keyword.value) for keyword in given.keywords]
    elif isinstance(given, ast.Dict):
        names = (None if key is None else _literal(key, constants) for key in given.keys)
        pairs = list(zip(names, given.values, strict=True))
    else:
        return None, ()
    if not all(isinstance(name, str) for name, _ in pairs):
        return None, ()
    values = {name: _literal(value, constants) for name, value in pairs}
    unknown = tuple(sorted(name for name, value in values.items() if value is _UNKNOWN))
    return {name: value for name, value in values.items() if value is not _UNKNOWN}, unknown

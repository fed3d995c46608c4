"""The functions of `policy` as machine code: the same functions that a live controller interprets.

Importing this module is enough: from then on `policy.backend.run_batch` calls the compiled loops. There is no second
copy of a rule, a feature or a step of the guard; `tests/conformance/test_compiled_policies.py` compares the two ways of
running them.
"""

# Numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-call,untyped-decorator"

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import array_T

from prefect_intelligent.policy import (
    actions,
    backend,
    capacity_rules,
    encoding,
    guard,
    guard_steps,
    limit_rules,
    priority_rules,
    rule_policy,
)
from prefect_intelligent.policy.backend import use_compiled
from prefect_intelligent.twin.engine.jit import allow_calls, compiled


@type_callable(backend.columns)
def _type_of_columns(_: Any) -> Any:
    """The type of `columns` of an array: a view, which Numba's own functions return only with a reference count."""
    return lambda queues: queues.copy(layout="F")


@lower_builtin(backend.columns, types.Array)
def _columns(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return array_T(context, builder, signature.args[0], arguments[0])


def _allow_calls_of(module: ModuleType) -> None:
    """Let compiled functions call the functions of a module."""
    for function in vars(module).values():
        own = isinstance(function, FunctionType) and function.__module__ == module.__name__
        if own and function is not backend.columns:
            allow_calls(function)


for _module in (
    backend,
    priority_rules,
    capacity_rules,
    limit_rules,
    actions,
    rule_policy,
    encoding,
    guard_steps,
    guard,
):
    _allow_calls_of(_module)

propose_pools = compiled(rule_policy.propose_pools)
rank_pools = compiled(priority_rules.rank_pools)
adjust_pools = compiled(actions.adjust_pools)
encode_pools = compiled(encoding.encode_pools)
permit_pools = compiled(guard.permit_pools)

use_compiled(rule_policy.propose_pools, propose_pools)
use_compiled(priority_rules.rank_pools, rank_pools)
use_compiled(actions.adjust_pools, adjust_pools)
use_compiled(encoding.encode_pools, encode_pools)
use_compiled(guard.permit_pools, permit_pools)

"""The functions of `policy` as machine code: the very ones that a live controller runs interpreted.

Importing this module is enough: from then on `policy.loops.run` calls the compiled loops. There is no second copy of
a rule, a feature or a promise of the guard; `tests/conformance/test_compiled_policies.py` holds the two ways of
running them to each other.
"""

# Numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-call,untyped-decorator"

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import array_T

from prefect_intelligent.policy import capacity, composed, encoding, guard, guard_pool, levers, limits, loops, rules
from prefect_intelligent.policy.loops import compiled_as
from prefect_intelligent.twin.compiled import compiled, usable


@type_callable(loops.columns)
def _type_of_columns(_: Any) -> Any:
    """Where it meets an array, `columns` is a view; numba's own functions may not return one uncounted."""
    return lambda queues: queues.copy(layout="F")


@lower_builtin(loops.columns, types.Array)
def _columns(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return array_T(context, builder, signature.args[0], arguments[0])


def _use(module: ModuleType) -> None:
    """Let compiled functions call the functions of a module."""
    for function in vars(module).values():
        own = isinstance(function, FunctionType) and function.__module__ == module.__name__
        if own and function is not loops.columns:
            usable(function)


for _module in (loops, rules, capacity, limits, levers, composed, encoding, guard_pool, guard):
    _use(_module)

propose_pools = compiled(composed.propose_pools)
rank_pools = compiled(rules.rank_pools)
adjust_pools = compiled(levers.adjust_pools)
encode_pools = compiled(encoding.encode_pools)
permit_pools = compiled(guard.permit_pools)

compiled_as(composed.propose_pools, propose_pools)
compiled_as(rules.rank_pools, rank_pools)
compiled_as(levers.adjust_pools, adjust_pools)
compiled_as(encoding.encode_pools, encode_pools)
compiled_as(guard.permit_pools, permit_pools)

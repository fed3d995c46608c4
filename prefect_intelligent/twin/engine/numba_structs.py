"""A batch and one world of it, passed through the kernel by reference.

Numba passes a named tuple of arrays as a hundred arguments. `by_reference` puts the arrays into a struct on the
caller's stack and passes its address; the struct must not outlive the caller, who holds the arrays. `letter` writes the
same struct for a whole batch into an array of its own, so that a call from Python hands over three arrays instead of
sixty; whoever keeps the letter keeps the batch.
"""

# Numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-call,misc,untyped-decorator,import-untyped,override"

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, register_model
from numba.np.numpy_support import from_dtype


class RowType(types.Type):
    """Numba's type of the address of a struct of arrays.

    Args:
        fields: Name and type of each array.
    """

    def __init__(self, fields: tuple[tuple[str, types.Array], ...]) -> None:
        self.fields = fields
        digest = hashlib.sha256(str(fields).encode()).hexdigest()[:16]  # every compiled name carries it
        super().__init__(name=f"Row{digest}")


@register_model(RowType)
class RowModel(models.OpaqueModel):
    """An address and nothing else."""


@infer_getattr
class RowAttributes(AttributeTemplate):
    """`row.runs` and the like."""

    key = RowType

    def generic_resolve(self, typ: RowType, attr: str) -> Any:
        """The type of a field, or None if there is none of that name."""
        return dict(typ.fields).get(attr)


def _struct(context: Any, typ: RowType) -> Any:
    """The LLVM type of the struct."""
    return ir.LiteralStructType([context.get_value_type(field) for _, field in typ.fields])


@lower_getattr_generic(RowType)
def _field(context: Any, builder: Any, typ: RowType, value: Any, attr: str) -> Any:
    place = [name for name, _ in typ.fields].index(attr)
    address = builder.bitcast(value, _struct(context, typ).as_pointer())
    return builder.load(cgutils.gep_inbounds(builder, address, 0, place))


def _by_reference(typing_context: Any, row: Any) -> Any:
    """Typing and code of `by_reference`."""
    typ = RowType(tuple(zip(row.fields, row.types, strict=True)))

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = cgutils.alloca_once(builder, _struct(context, typ))
        for place, (_, field) in enumerate(typ.fields):
            array = context.make_array(field)(context, builder, value=builder.extract_value(arguments[0], place))
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            builder.store(array._getvalue(), cgutils.gep_inbounds(builder, struct, 0, place))
        return builder.bitcast(struct, cgutils.voidptr_t)

    return typ(row), build


by_reference: Any = intrinsic(_by_reference)
"""The address of a struct on the stack of the calling function that holds the arrays of a named tuple."""


def pack_pointers(tables: tuple[npt.NDArray[Any], ...]) -> npt.NDArray[np.int64]:
    """The struct of the arrays of a named tuple, as Numba lays it out; see `numba.core.datamodel.ArrayModel`."""
    words: list[int] = []
    for table in tables:
        if not table.flags.c_contiguous:
            raise ValueError("tables of a batch have to be contiguous")
        owner, parent, address = 0, 0, table.__array_interface__["data"][0]
        words += [owner, parent, table.size, table.itemsize, address, *table.shape, *table.strides]
    return np.array(words, dtype=np.int64)


def unpacker(example: NamedTuple) -> Any:
    """The function that turns the letter of a named tuple back into its arrays."""
    fields = [
        (name, types.Array(from_dtype(table.dtype), table.ndim, "C")) for name, table in example._asdict().items()
    ]
    typ = RowType(tuple(fields))

    def opened(typing_context: Any, words: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
            return builder.bitcast(array.data, cgutils.voidptr_t)

        return typ(words), build

    return intrinsic(opened)


def _take(typing_context: Any, counters: Any, place: Any, count: Any) -> Any:
    """Typing and code of `take`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), build


take: Any = intrinsic(_take)
"""Add to one number of an array, which other threads may be doing too, and return what it was."""

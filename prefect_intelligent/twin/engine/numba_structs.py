"""Structs of arrays that compiled functions pass by address.

Numba passes a named tuple of arrays as about a hundred arguments. `by_reference` stores the arrays in a struct on the
stack of the calling function and passes its address; the struct must not outlive that function, which keeps the arrays.
`pack_pointers` writes the same struct for a whole batch into an array, and a function made by `unpacker` turns that
array back into the arrays, so that a call from Python passes three arguments instead of sixty. The packed array keeps
nothing alive: the caller must.

All of this relies on how Numba lays out an array (`numba.core.datamodel.ArrayModel`), which is not documented. The
versions that pyproject permits have been tried, and `check_array_layout` refuses another layout at import.
"""

# Numba's extension interface is untyped.
# mypy: disable-error-code="no-untyped-call,misc,untyped-decorator,import-untyped,override"

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import default_manager
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, register_model
from numba.np.numpy_support import from_dtype

from prefect_intelligent.errors import IncompatibleLibraryError, InvalidInputError

ARRAY_LAYOUT: Final = (
    ("meminfo", "pointer"),
    ("parent", "pointer"),
    ("nitems", "i64"),
    ("itemsize", "i64"),
    ("data", "pointer"),
    ("shape", "[2 x i64]"),
    ("strides", "[2 x i64]"),
)
"""Name and type of each member of Numba's struct for an array of two dimensions, in their order."""


def check_array_layout() -> None:
    """Refuse a Numba whose arrays are laid out otherwise than `pack_pointers` and `by_reference` assume.

    Raises:
        IncompatibleLibraryError: They are.
    """
    model = default_manager.lookup(types.Array(types.float64, 2, "C"))
    struct = model.get_value_type()
    kinds = ["pointer" if isinstance(kind, ir.PointerType) else str(kind) for kind in getattr(struct, "elements", ())]
    found = tuple(zip(getattr(model, "_fields", ()), kinds, strict=False))
    if found != ARRAY_LAYOUT or getattr(struct, "packed", False):
        library = f"Numba {numba.__version__}"
        raise IncompatibleLibraryError(library, "layout of an array", _shown(found), _shown(ARRAY_LAYOUT), "twin")


def _shown(layout: tuple[tuple[str, str], ...]) -> str:
    """A layout as in an error message."""
    return "(" + ", ".join(f"{name}: {kind}" for name, kind in layout) + ")"


check_array_layout()


class StructType(types.Type):
    """Numba's type of the address of a struct of arrays.

    Args:
        fields: Name and type of each array.
    """

    def __init__(self, fields: tuple[tuple[str, types.Array], ...]) -> None:
        self.fields = fields
        digest = hashlib.sha256(str(fields).encode()).hexdigest()[:16]  # short, as every compiled name contains it
        super().__init__(name=f"Struct{digest}")


@register_model(StructType)
class StructModel(models.OpaqueModel):
    """An address and nothing else."""


@infer_getattr
class StructAttributes(AttributeTemplate):
    """Types of `struct.runs` and the like."""

    key = StructType

    def generic_resolve(self, typ: StructType, attr: str) -> Any:
        """The type of a field, or None if there is none of that name."""
        return dict(typ.fields).get(attr)


def _llvm_struct(context: Any, typ: StructType) -> Any:
    """The LLVM type of the struct."""
    return ir.LiteralStructType([context.get_value_type(field) for _, field in typ.fields])


@lower_getattr_generic(StructType)
def _load_field(context: Any, builder: Any, typ: StructType, value: Any, attr: str) -> Any:
    """Code of `struct.runs` and the like."""
    place = [name for name, _ in typ.fields].index(attr)
    address = builder.bitcast(value, _llvm_struct(context, typ).as_pointer())
    return builder.load(cgutils.gep_inbounds(builder, address, 0, place))


def _by_reference(typing_context: Any, row: Any) -> Any:
    """Typing and code of `by_reference`."""
    typ = StructType(tuple(zip(row.fields, row.types, strict=True)))

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = cgutils.alloca_once(builder, _llvm_struct(context, typ))
        for place, (_, field) in enumerate(typ.fields):
            array = context.make_array(field)(context, builder, value=builder.extract_value(arguments[0], place))
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            array.parent = cgutils.get_null_value(array.parent.type)
            builder.store(array._getvalue(), cgutils.gep_inbounds(builder, struct, 0, place))
        return builder.bitcast(struct, cgutils.voidptr_t)

    return typ(row), build


by_reference: Any = intrinsic(_by_reference)
"""The address of a struct, on the stack of the calling function, that holds the arrays of a named tuple."""


def pack_pointers(tables: tuple[npt.NDArray[Any], ...]) -> npt.NDArray[np.int64]:
    """The struct of the arrays of a named tuple, as `ARRAY_LAYOUT` says, each array with its number of dimensions.

    Raises:
        InvalidInputError: A table is not contiguous.
    """
    words: list[int] = []
    for table in tables:
        if not table.flags.c_contiguous:
            raise InvalidInputError("strides of a table", table.strides, "tables of a batch must be C-contiguous")
        meminfo, parent, address = 0, 0, table.__array_interface__["data"][0]
        words += [meminfo, parent, table.size, table.itemsize, address, *table.shape, *table.strides]
    return np.array(words, dtype=np.int64)


def unpacker(example: NamedTuple) -> Any:
    """The compiled function that turns what `pack_pointers` wrote of such a named tuple back into its arrays."""
    fields = [
        (name, types.Array(from_dtype(table.dtype), table.ndim, "C")) for name, table in example._asdict().items()
    ]
    typ = StructType(tuple(fields))

    def unpack(typing_context: Any, words: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
            return builder.bitcast(array.data, cgutils.voidptr_t)

        return typ(words), build

    return intrinsic(unpack)


def _take(typing_context: Any, counters: Any, place: Any, count: Any) -> Any:
    """Typing and code of `take`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), build


take: Any = intrinsic(_take)
"""`take(counters, place, count)`: add to one number of an array, atomically among threads, and return what it was."""

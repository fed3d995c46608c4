"""Tables of records, declared once: a Protocol names the fields for readers and mypy, `dtype_of` makes its NumPy type.

Compiled functions read and write `table[row].field`, which Numba knows from the NumPy type; annotations it ignores.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeAlias, TypeVar, get_type_hints

import numpy as np

F8: TypeAlias = Annotated[float, "f8"]
I8: TypeAlias = Annotated[int, "i8"]
I2: TypeAlias = Annotated[int, "i2"]
I1: TypeAlias = Annotated[int, "i1"]
U8: TypeAlias = Annotated[np.uint64, "u8"]
"""Types of fields: what a reader meets, and how NumPy stores it. Flags are `I1`, 0 or 1."""

Record = TypeVar("Record", covariant=True)


class Records(Protocol[Record]):
    """A table with one axis. A record is a view: to assign to its fields is to write to the table."""

    @property
    def shape(self) -> tuple[int]:
        """Number of records."""
        ...

    def __getitem__(self, row: int, /) -> Record:
        """The record of a row."""
        ...


class RecordGrid(Protocol[Record]):
    """A table with two axes."""

    @property
    def shape(self) -> tuple[int, int]:
        """Length of each axis."""
        ...

    def __getitem__(self, place: tuple[int, int], /) -> Record:
        """The record at a place."""
        ...


def dtype_of(record: type[Any]) -> np.dtype[Any]:
    """The structured type of a table whose records are declared by a Protocol: its fields in order, aligned as in C."""
    hints = get_type_hints(record, include_extras=True)
    return np.dtype([(name, hint.__metadata__[0]) for name, hint in hints.items()], align=True)

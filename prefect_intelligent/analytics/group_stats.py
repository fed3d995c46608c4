"""Rows in groups: integer codes, sums and quantiles, in time that is linear in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
"""Group of each row; -1 is none."""

_DENSE: Final = 2**24


class SparseColumn:
    """A column that is mostly zero: only the rows that are not are added up."""

    def __init__(self, values: npt.NDArray[np.bool_] | Array) -> None:
        self._rows = np.flatnonzero(values)
        self._values = values[self._rows].astype(float)

    def totals(self, codes: Codes, groups: int) -> Array:
        """Sum per group."""
        own = codes[self._rows]
        return np.bincount(own + 1, weights=self._values, minlength=groups + 1)[1:].astype(float)


class SortedColumn:
    """The known values of a column in order, so that quantiles of any grouping need no further sort of them."""

    def __init__(self, values: Array) -> None:
        known = np.flatnonzero(np.isfinite(values))
        self.rows = known[np.argsort(values[known])]
        self.values = values[self.rows]

    def quantiles(self, codes: Codes, groups: int, shares: Sequence[float]) -> Array:
        """Quantiles per group, linear between order statistics.

        Args:
            codes: Group of each row of the column; -1 is left out.
            groups: How many groups there are.
            shares: Which quantiles, 0 to 1.

        Returns:
            Shape (groups, len(shares)); NaN for groups without values.
        """
        own = codes[self.rows]
        if own.size and own.min() < 0:
            kept = own >= 0
            own, value = own[kept], self.values[kept]
        else:
            value = self.values
        if groups > 1:  # a stable sort of small integers is a radix sort: linear
            small = own.astype(np.uint16) if groups < 2**16 else own
            value = value[np.argsort(small, kind="stable")]
        sizes = np.bincount(own, minlength=groups)
        starts = np.cumsum(sizes) - sizes
        out = np.full((groups, len(shares)), np.nan)
        some = sizes > 0
        for column, share in enumerate(shares):
            place = share * (sizes[some] - 1)
            low = np.floor(place).astype(np.int64)
            high = np.minimum(low + 1, sizes[some] - 1)
            below, above = value[starts[some] + low], value[starts[some] + high]
            out[some, column] = below + (place - low) * (above - below)
        return out


def group_codes(runs: pd.DataFrame, dimension: str) -> tuple[Codes, list[str]]:
    """An integer per row and the name of each integer; -1 where nothing is known."""
    if dimension == "hour":
        hours = (runs["submitted_s"].to_numpy(dtype=float) % 86400.0 // 3600.0).astype(np.int64)
        return hours, [f"{hour:02d}" for hour in range(24)]
    column = runs[dimension]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    codes = column.cat.codes.to_numpy().astype(np.int64)
    names = [str(name) for name in column.cat.categories]
    if dimension == "version" and names:  # a version means something within its deployment only
        deployment = runs["deployment"]
        if not isinstance(deployment.dtype, pd.CategoricalDtype):
            deployment = deployment.astype("category")
        both = np.where(codes < 0, -1, deployment.cat.codes.to_numpy().astype(np.int64) * len(names) + codes)
        of = [str(name) for name in deployment.cat.categories]
        if len(of) * len(names) < _DENSE:  # counting is linear, finding what is unique sorts
            found = np.flatnonzero(np.bincount(both + 1, minlength=1)[1:])
            place = np.full(len(of) * len(names) + 1, -1, dtype=np.int64)
            place[found] = np.arange(len(found))
            compact = place[both]
        else:
            found, compact = np.unique(both, return_inverse=True)
            compact = compact - int(len(found) > 0 and found[0] < 0)
            found = found[found >= 0]
        return compact, [f"{of[pair // len(names)]} {names[pair % len(names)]}" for pair in found]
    return codes, names

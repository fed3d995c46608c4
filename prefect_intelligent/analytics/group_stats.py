"""Sums and quantiles of columns by group, in time that is linear in the rows."""

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
    """A column that is mostly zero: only its other rows are summed."""

    def __init__(self, values: npt.NDArray[np.bool_] | Array) -> None:
        self._rows = np.flatnonzero(values)
        self._values = values[self._rows].astype(float)

    def totals(self, codes: Codes, groups: int) -> Array:
        """Sum per group."""
        groups_of_rows = codes[self._rows]
        return np.bincount(groups_of_rows + 1, weights=self._values, minlength=groups + 1)[1:].astype(float)


class SortedColumn:
    """The finite values of a column, sorted once for the quantiles of any grouping."""

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
        group, value = codes[self.rows], self.values
        if group.size and group.min() < 0:
            kept = group >= 0
            group, value = group[kept], value[kept]
        if groups > 1:  # a stable sort of small integers is a radix sort: linear
            small = group.astype(np.uint16) if groups < 2**16 else group
            value = value[np.argsort(small, kind="stable")]
        sizes = np.bincount(group, minlength=groups)
        starts = np.cumsum(sizes) - sizes
        out = np.full((groups, len(shares)), np.nan)
        some = sizes > 0
        for column, share in enumerate(shares):
            position = share * (sizes[some] - 1)
            low = np.floor(position).astype(np.int64)
            high = np.minimum(low + 1, sizes[some] - 1)
            below, above = value[starts[some] + low], value[starts[some] + high]
            out[some, column] = below + (position - low) * (above - below)
        return out


def group_codes(runs: pd.DataFrame, dimension: str) -> tuple[Codes, list[str]]:
    """The group of each row as an integer, -1 if unknown, and the name of each integer."""
    if dimension == "hour":
        hours = (runs["submitted_s"].to_numpy(dtype=float) % 86400.0 // 3600.0).astype(np.int64)
        return hours, [f"{hour:02d}" for hour in range(24)]
    column = runs[dimension]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    codes = column.cat.codes.to_numpy().astype(np.int64)
    names = [str(name) for name in column.cat.categories]
    if dimension == "version" and names:  # a version is a version of its deployment
        deployment = runs["deployment"]
        if not isinstance(deployment.dtype, pd.CategoricalDtype):
            deployment = deployment.astype("category")
        both = np.where(codes < 0, -1, deployment.cat.codes.to_numpy().astype(np.int64) * len(names) + codes)
        deployments = [str(name) for name in deployment.cat.categories]
        if len(deployments) * len(names) < _DENSE:  # counting is linear, np.unique sorts
            found = np.flatnonzero(np.bincount(both + 1, minlength=1)[1:])
            index = np.full(len(deployments) * len(names) + 1, -1, dtype=np.int64)
            index[found] = np.arange(len(found))
            compact = index[both]
        else:
            found, compact = np.unique(both, return_inverse=True)
            compact = compact - int(len(found) > 0 and found[0] < 0)
            found = found[found >= 0]
        return compact, [f"{deployments[pair // len(names)]} {names[pair % len(names)]}" for pair in found]
    return codes, names

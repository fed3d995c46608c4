"""Failures grouped into causes by their signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.history.failure_signature import UNKNOWN

Codes = npt.NDArray[np.int64]

_BEFORE: Final = 5
_ON_HOST: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """One cause of failures over a span.

    Attributes:
        signature: As from `signature`.
        failures: Runs that failed by it.
        deployments: Which deployments, most hit first.
        first_s: First seen, Unix seconds.
        last_s: Last seen.
        introduced_by: Version of the most hit deployment with which it came, if that deployment ran before without it;
            None if it did not, or has no versions.
        host: The only host on which it happens although the deployments ran on others too; None otherwise.
        wasted_s: Slot seconds spent on these runs.
    """

    signature: str
    failures: int
    deployments: tuple[str, ...]
    first_s: float
    last_s: float
    introduced_by: str | None
    host: str | None
    wasted_s: float


def group_causes(runs: pd.DataFrame) -> tuple[FailureCause, ...]:
    """The causes of the failed runs of a table (ordered by submission), those with most failures first."""
    rows = np.flatnonzero(runs["failed"].to_numpy(dtype=bool))
    if len(rows) == 0:
        return ()
    index = _Index(runs)
    submitted, started, ended = (
        runs[name].to_numpy(dtype=float)[rows] for name in ("submitted_s", "started_s", "ended_s")
    )
    at = np.where(np.isfinite(ended), ended, submitted)
    held = np.nan_to_num(ended - started, nan=0.0)
    codes, names = _codes(runs["cause"].iloc[rows])
    found = []
    for code in np.unique(codes):
        own = codes == code
        deployments = index.deployment[rows[own]]
        hit = np.bincount(deployments[deployments >= 0], minlength=1)
        most = np.argsort(-hit, kind="stable")[: int((hit > 0).sum())]
        found.append(
            FailureCause(
                signature=names[code] if code >= 0 else UNKNOWN,
                failures=int(own.sum()),
                deployments=tuple(index.deployment_names[d] for d in most[:20]),
                first_s=float(at[own].min()),
                last_s=float(at[own].max()),
                introduced_by=index.version_that_brought(rows[own], int(most[0])) if len(most) else None,
                host=index.only_host(rows[own], most),
                wasted_s=float(held[own].sum()),
            )
        )
    return tuple(sorted(found, key=lambda cause: (-cause.failures, cause.signature)))


def _codes(column: pd.Series[Any]) -> tuple[Codes, list[str]]:
    """An integer per row, -1 where nothing is known, and the text of each integer."""
    kept = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
    return kept.cat.codes.to_numpy().astype(np.int64), [str(name) for name in kept.cat.categories]


class _Index:
    """Versions and hosts of each deployment's runs, found without searching the table again for every cause."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.deployment, self.deployment_names = _codes(runs["deployment"])
        self.version, self.version_names = _codes(runs["version"])
        self.host, self.host_names = _codes(runs["host"])
        groups = len(self.deployment_names) + 1  # the first is "no deployment"
        self._order = np.argsort((self.deployment + 1).astype(np.uint32), kind="stable")
        self._ends = np.cumsum(np.bincount(self.deployment + 1, minlength=groups))
        hosts = len(self.host_names) + 1
        pairs = np.bincount((self.deployment + 1) * hosts + self.host + 1, minlength=groups * hosts)
        self._on_host = pairs.reshape(groups, hosts)[1:, 1:]

    def version_that_brought(self, failures: Codes, deployment: int) -> str | None:
        """The version of the first failure, if at least five runs of others came before and all failures are its."""
        own = failures[self.deployment[failures] == deployment]
        versions = self.version[own]
        if versions[0] < 0 or (versions != versions[0]).any():
            return None
        runs = self._order[self._ends[deployment] : self._ends[deployment + 1]]
        before = self.version[runs[runs < own[0]]]
        if int((before != versions[0]).sum()) < _BEFORE:
            return None
        return self.version_names[int(versions[0])]

    def only_host(self, failures: Codes, deployments: Codes) -> str | None:
        """The one host of all failures, if the same deployments ran at least as often elsewhere."""
        hosts = np.unique(self.host[failures][self.host[failures] >= 0])
        if len(hosts) != 1 or len(failures) < _ON_HOST:
            return None
        same = self._on_host[deployments]
        elsewhere = int(same.sum() - same[:, hosts[0]].sum())
        return self.host_names[int(hosts[0])] if elsewhere >= len(failures) else None

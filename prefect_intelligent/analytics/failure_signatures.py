"""Groups failures into causes by their signature."""

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
        signature: As from `history.failure_signature.signature`.
        failures: Number of runs that failed by it.
        deployments: Their deployments (at most 20), most failures first.
        first_s: First failure, Unix seconds.
        last_s: Last failure, Unix seconds.
        introduced_by: Version of the first of the deployments, if all its failures are of this version and at least
            five runs of other versions came before; else None.
        host: Host of all failures, if the deployments ran at least as often on other hosts; else None.
        wasted_s: Slot seconds of these runs.
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
        of_cause = codes == code
        deployments = index.deployment[rows[of_cause]]
        failures = np.bincount(deployments[deployments >= 0], minlength=1)
        ranked = np.argsort(-failures, kind="stable")[: int((failures > 0).sum())]
        found.append(
            FailureCause(
                signature=names[code] if code >= 0 else UNKNOWN,
                failures=int(of_cause.sum()),
                deployments=tuple(index.deployment_names[d] for d in ranked[:20]),
                first_s=float(at[of_cause].min()),
                last_s=float(at[of_cause].max()),
                introduced_by=index.introducing_version(rows[of_cause], int(ranked[0])) if len(ranked) else None,
                host=index.only_host(rows[of_cause], ranked),
                wasted_s=float(held[of_cause].sum()),
            )
        )
    return tuple(sorted(found, key=lambda cause: (-cause.failures, cause.signature)))


def _codes(column: pd.Series[Any]) -> tuple[Codes, list[str]]:
    """An integer per row, -1 for missing values, and the text of each integer."""
    kept = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
    return kept.cat.codes.to_numpy().astype(np.int64), [str(name) for name in kept.cat.categories]


class _Index:
    """Versions and hosts of the runs of each deployment, indexed once for all causes."""

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

    def introducing_version(self, failures: Codes, deployment: int) -> str | None:
        """The version of all failures of a deployment, if at least five runs of other versions came before them."""
        of_deployment = failures[self.deployment[failures] == deployment]
        versions = self.version[of_deployment]
        if versions[0] < 0 or (versions != versions[0]).any():
            return None
        runs = self._order[self._ends[deployment] : self._ends[deployment + 1]]
        before = self.version[runs[runs < of_deployment[0]]]
        if int((before != versions[0]).sum()) < _BEFORE:
            return None
        return self.version_names[int(versions[0])]

    def only_host(self, failures: Codes, deployments: Codes) -> str | None:
        """The host of all failures, if the same deployments ran at least as often on other hosts."""
        hosts = np.unique(self.host[failures][self.host[failures] >= 0])
        if len(hosts) != 1 or len(failures) < _ON_HOST:
            return None
        same = self._on_host[deployments]
        elsewhere = int(same.sum() - same[:, hosts[0]].sum())
        return self.host_names[int(hosts[0])] if elsewhere >= len(failures) else None

"""Failures grouped into causes: one signature per kind of exception and place, whatever the values in the message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

Codes = npt.NDArray[np.int64]

_EXCEPTION = re.compile(
    r"(?:^|[\s:])((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt|Timeout|Killed|Failure))\b:?\s?(.*)"
)
_FRAME = re.compile(r'^\s*File "([^"]+)", line \d+, in (\S+)', re.MULTILINE)
_LIBRARY: Final = ("site-packages", "dist-packages", "/prefect/", "/lib/python", "<frozen", "importlib")
_NORMAL: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<address>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE), "<url>"),
    (re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[\w.@-]+[/\\])+[\w.@-]*"), "<path>"),
    (re.compile(r"'[^']{1,200}'|\"[^\"]{1,200}\""), "<text>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{12,}\b", re.IGNORECASE), "<hash>"),
    (re.compile(r"[-+]?\b\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"), "<n>"),
)
_SEPARATOR = re.compile(r"[/\\]")
_MOST: Final = 160
UNKNOWN: Final = "no message"


def signature(text: str | None) -> str:
    """The cause that a state message, a log or a traceback speaks of, without what differs from run to run.

    "ValueError: no row <n> (load in etl.py)": the last exception, its message with ids, numbers, paths, quotes, times
    and addresses replaced, and the last frame that is not a library's. Text without an exception is shortened and
    normalised in the same way.
    """
    if not text or not text.strip():
        return UNKNOWN
    kind, message = "", ""
    for line in text.splitlines():
        if (found := _EXCEPTION.search(line)) is not None:
            kind, message = found[1].rsplit(".", 1)[-1], found[2]
    if not kind:
        message = text.strip().splitlines()[-1]
    for pattern, instead in _NORMAL:
        message = pattern.sub(instead, message)
    message = " ".join(message.split())
    if len(message) > _MOST:
        message = message[: _MOST - 1] + "…"
    own = [(file, name) for file, name in _FRAME.findall(text) if not any(part in file for part in _LIBRARY)]
    place = f" ({own[-1][1]} in {_SEPARATOR.split(own[-1][0])[-1]})" if own else ""
    return (f"{kind}: {message}" if kind and message else kind or message) + place


_BEFORE: Final = 5
_ON_HOST: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
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


def group_causes(runs: pd.DataFrame) -> tuple[Cause, ...]:
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
            Cause(
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

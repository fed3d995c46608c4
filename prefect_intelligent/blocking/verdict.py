"""The answer to "why does it not start?": the chain of reasons, the one thing to do, and when it starts otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.blocking.chain import decisive
from prefect_intelligent.blocking.reasons import Blocker, Reason
from prefect_intelligent.domain.instants import iso

_UNDERWAY = (Reason.ENDED, Reason.RUNNING, Reason.STARTING, Reason.CANCELLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyVerdict:
    """What is said about one run or one deployment.

    Attributes:
        subject: What was asked about: "run NAME of DEPLOYMENT", or the deployment.
        run: Id of the run; None if the deployment has none to come.
        deployment: "flow/deployment"; None if it has gone.
        pool: Its work pool; None without one.
        queue: Its work queue; None without one.
        blockers: The reasons, what has to be dealt with first first.
        start_s: Estimate of its start, Unix seconds, if nothing is done: median and 90 % quantile; None is not known.
    """

    subject: str
    run: str | None
    deployment: str | None
    pool: str | None
    queue: str | None
    blockers: Sequence[Blocker]
    start_s: tuple[float, float] | None = None

    @property
    def advice(self) -> str:
        """The one thing to do; empty if there is nothing to do."""
        return decisive(self.blockers).advice

    @property
    def never(self) -> bool:
        """Whether it does not start until somebody does something."""
        return any(blocker.lasts for blocker in self.blockers)

    @property
    def otherwise(self) -> str:
        """When it starts if nothing is done."""
        if any(blocker.reason in _UNDERWAY for blocker in self.blockers):
            return ""
        if self.never:
            return "otherwise it does not start"
        if self.start_s is not None:
            return f"otherwise it starts at about {iso(self.start_s[0])} (9 of 10 by {iso(self.start_s[1])})"
        until = [blocker.until_s for blocker in self.blockers]
        known = [at_s for at_s in until if at_s is not None]
        if known and len(known) == len(until):
            return f"it starts at about {iso(max(known))}"
        return "it starts when that has passed; nobody knows when"

    @property
    def lines(self) -> list[str]:
        """The answer in sentences: what it is about, each reason, the one thing to do, when it starts otherwise."""
        found = [f"{self.subject}:", *(f"  {blocker.what}" for blocker in self.blockers)]
        found += [f"do: {self.advice}"] if self.advice else []
        return [*found, *([self.otherwise] if self.otherwise else [])]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        start_s = self.start_s
        return {
            "subject": self.subject,
            "run": self.run,
            "deployment": self.deployment,
            "pool": self.pool,
            "queue": self.queue,
            "reasons": [
                {
                    "reason": blocker.reason.name.lower(),
                    "kind": blocker.kind,
                    "subject": blocker.subject,
                    "what": blocker.what,
                    "advice": blocker.advice,
                    "until_s": blocker.until_s,
                }
                for blocker in self.blockers
            ],
            "advice": self.advice,
            "never": self.never,
            "start_p50_s": None if start_s is None else start_s[0],
            "start_p90_s": None if start_s is None else start_s[1],
            "otherwise": self.otherwise,
        }

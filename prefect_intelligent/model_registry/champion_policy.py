"""The policy in charge, wherever it is: follows the champion alias without a restart, each new one in shadow first."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.model_registry.ports import PolicyStore
from prefect_intelligent.model_registry.promotion import CHAMPION
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.bundle import load_first
from prefect_intelligent.policy.census import Census


class ChampionPolicy:
    """A policy that is always the store's champion.

    A new champion is asked along with the old one for a number of decisions before it decides; if it answers nonsense
    once, it starts over. A bundle that cannot be read leaves the last good champion in charge, and without any the
    rule.

    Args:
        store: Where champions are.
        rule: What decides while there is none.
        shadow_decisions: Decisions that a new champion only watches; the first one ever found decides at once.
        notice: Called with one sentence when something changes or is refused.
    """

    def __init__(
        self,
        store: PolicyStore,
        rule: Policy,
        *,
        shadow_decisions: int = 10,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._rule, self._notice = store, rule, notice
        self._shadow_decisions = shadow_decisions
        self._acting: Policy = rule
        self._version: str | None = None
        self._waiting: tuple[str, Policy] | None = None
        self._watched = 0
        self._refused: str | None = None

    @property
    def name(self) -> str:
        """The champion's name and version."""
        return self._acting.name if self._version is None else f"champion {self._version}"

    @property
    def acting(self) -> Policy:
        """The policy in charge."""
        return self._acting

    def propose(self, census: Census) -> Proposal:
        """What the acting champion proposes."""
        self._look()
        if self._waiting is not None:
            self._watch(census)
        return self._acting.propose(census)

    def _look(self) -> None:
        """Notice a new alias."""
        try:
            version = self._store.alias(CHAMPION)
            if version is None or version in (self._version, self._refused):
                if version == self._version:
                    self._waiting = None
                return
            if self._waiting is not None and self._waiting[0] == version:
                return
            reasons: list[str] = []
            policy = load_first([self._store.folder(version)], self._rule, reasons.append)
        except PrefectIntelligentError as error:
            self._notice(f"the policy store cannot be read, {self.name} stays in charge: {error}")
            return
        if reasons:
            self._refused = version
            self._notice(f"champion {version} was refused, {self.name} stays in charge: {reasons[0]}")
        elif self._version is None:
            self._act(version, policy)
        else:
            self._waiting, self._watched = (version, policy), 0
            self._notice(f"champion {version} is in shadow for {self._shadow_decisions} decisions")

    def _watch(self, census: Census) -> None:
        """Let the waiting champion answer, too."""
        assert self._waiting is not None
        version, policy = self._waiting
        if self._watched >= self._shadow_decisions:
            self._act(version, policy)
            return
        answer = policy.propose(census)
        there = census.present
        sane = bool(np.isfinite(answer.score[there]).all() and not np.isnan(answer.limit[there]).any())
        sane = sane and not any(math.isnan(float(value)) for value in np.ravel(answer.pool_limit))
        self._watched = self._watched + 1 if sane else 0

    def _act(self, version: str, policy: Policy) -> None:
        self._acting, self._version, self._waiting = policy, version, None
        self._notice(f"champion {version} is in charge")

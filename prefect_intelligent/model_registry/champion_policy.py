"""A policy that follows the champion alias without a restart; a new champion runs in shadow first."""

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
    """The policy that is the store's champion.

    A new champion proposes beside the old one for a number of decisions before it is in charge; an invalid proposal
    starts the count again. If a bundle cannot be read, the last good champion stays in charge, or the rule if there was
    none.

    Args:
        store: The policy store.
        rule: Decides while there is no champion.
        shadow_decisions: Number of decisions that a new champion spends in shadow; the first champion ever found
            decides at once.
        notice: Called with one sentence when the champion changes or is refused.
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
        self._shadow: tuple[str, Policy] | None = None
        self._shadowed = 0
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
        self._follow_alias()
        if self._shadow is not None:
            self._run_shadow(census)
        return self._acting.propose(census)

    def _follow_alias(self) -> None:
        """Load the champion if the alias has moved."""
        try:
            version = self._store.alias(CHAMPION)
            if version is None or version in (self._version, self._refused):
                if version == self._version:
                    self._shadow = None
                return
            if self._shadow is not None and self._shadow[0] == version:
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
            self._take_charge(version, policy)
        else:
            self._shadow, self._shadowed = (version, policy), 0
            self._notice(f"champion {version} is in shadow for {self._shadow_decisions} decisions")

    def _run_shadow(self, census: Census) -> None:
        """Let the new champion propose too; after enough valid proposals it is in charge."""
        assert self._shadow is not None
        version, policy = self._shadow
        if self._shadowed >= self._shadow_decisions:
            self._take_charge(version, policy)
            return
        proposal = policy.propose(census)
        present = census.present
        valid = bool(np.isfinite(proposal.score[present]).all() and not np.isnan(proposal.limit[present]).any())
        valid = valid and not any(math.isnan(float(value)) for value in np.ravel(proposal.pool_limit))
        self._shadowed = self._shadowed + 1 if valid else 0

    def _take_charge(self, version: str, policy: Policy) -> None:
        self._acting, self._version, self._shadow = policy, version, None
        self._notice(f"champion {version} is in charge")

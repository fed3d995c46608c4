"""The arms of a comparison, and the regime in which their controllers run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.settings import PoolSettings, Settings
from prefect_intelligent.twin.spec import PoolSpec
from prefect_intelligent.wiring.regime import guard_of

DEFAULT, RULE, AGENT = "default", "rule", "agent"
ARMS: Final = (DEFAULT, RULE, AGENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to run a pool.

    Attributes:
        name: "default", "rule" or "agent".
        policy: What the controller decides by, as in the settings; None if there is no controller.
        bound: Largest pool limit over the one that the pool has; 1 is what a controller does unless told otherwise.
    """

    name: str
    policy: str | None
    bound: float = 1.0

    def settings(self, pool_name: str, pool: PoolSpec, folder: Path) -> Settings:
        """The settings of the arm's controller: the product's own, with the prices and behaviour of the pool.

        Args:
            pool_name: Name of the work pool.
            pool: The pool.
            folder: Where the controller keeps its history.
        """
        return Settings(
            policy=self.policy or Settings().policy,
            data_dir=folder,
            pools={
                pool_name: PoolSettings(
                    most_slots=_most_slots(pool, self.bound),
                    slot_usd_per_hour=pool.prices.slot_usd_per_hour,
                    min_billing_s=pool.prices.min_billing_s,
                    idle_fraction=pool.prices.idle_fraction,
                    lateness_weight=pool.prices.lateness_weight,
                    poll_s=pool.poll_s,
                    startup_s=pool.startup_s,
                )
            },
        )

    @property
    def regime(self) -> Regime:
        """How that controller runs its policy."""
        settings = Settings()
        return Regime(interval_s=settings.interval_s, guard=guard_of(settings), pool_factor=self.bound)


def _most_slots(pool: PoolSpec, bound: float) -> int | None:
    """The setting `most_slots`; None leaves the pool what it has."""
    return None if bound == 1.0 or pool.limit is None else max(1, round(bound * pool.limit))


def choose_arms(agent: str, bound: float) -> tuple[Arm, ...]:
    """Prefect's default without a controller, the product's default rule, and an agent."""
    return (
        Arm(name=DEFAULT, policy=None, bound=bound),
        Arm(name=RULE, policy=Settings().policy, bound=bound),
        Arm(name=AGENT, policy=agent, bound=bound),
    )


def describe_regime(arms: tuple[Arm, ...]) -> dict[str, Any]:
    """The regime of all controllers, for the context of a report."""
    settings = Settings()
    return {
        "interval_s": settings.interval_s,
        "react": settings.react,
        "look_ahead_ms": settings.look_ahead_ms,
        "bound_of_the_limit": arms[-1].bound,
        "guard": settings.guard.model_dump(),
    }

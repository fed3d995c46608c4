"""Which arms the demo plays: Prefect's defaults, a rule, and an agent that was fitted to this pool beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.policy.bundle import MANIFEST, read_bundle

DEFAULT, STEERED, AGENT = "default", "steered", "agent"
HEADINGS: Final = {DEFAULT: "Prefect's defaults", STEERED: "Steered", AGENT: "Steered by an agent of this pool"}
"""Every arm that there may be, in the order in which they are played, with its heading."""
BUNDLE: Final = Path(__file__).with_name("agent")
"""Folder of the agent that comes with the demo; made by `python -m rl.fit` from recorded mornings."""
NO_AGENT: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPlan:
    """An arm to be played.

    Attributes:
        name: "default", "steered" or "agent".
        mode: Mode of its controller: in "shadow" it watches and writes nothing.
        policy: What its controller decides by.
    """

    name: str
    mode: str
    policy: str


def arms_of(result: Mapping[str, Any]) -> list[str]:
    """Names of the arms of a result, in their order."""
    return [name for name in HEADINGS if name in result]


def plan_arms(policy: str, agent: str | None) -> tuple[ArmPlan, ...]:
    """The arms, in order.

    Args:
        policy: Of the steered arm.
        agent: Folder of the agent's bundle, or "none"; if None, the one that comes with the demo, where there is one.

    Raises:
        InvalidInputError: The folder holds no bundle that can be used.
    """
    arms = (
        ArmPlan(name=DEFAULT, mode="shadow", policy=policy),
        ArmPlan(name=STEERED, mode="auto", policy=policy),
    )
    if agent == NO_AGENT or (agent is None and not (BUNDLE / MANIFEST).is_file()):
        return arms
    folder = BUNDLE if agent is None else Path(agent).expanduser().absolute()
    read_bundle(folder)
    return (*arms, ArmPlan(name=AGENT, mode="auto", policy=str(folder)))

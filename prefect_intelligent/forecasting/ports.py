"""Ports of forecasting: what the controller asks for each deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prefect_intelligent.forecasting.outlook import Outlook


class OutlookSource(Protocol):
    """Gives what is expected of the next run of each deployment."""

    @property
    def generation(self) -> int:
        """Increases with every change of any outlook."""
        ...

    def of(self, deployment: str) -> Outlook | None:
        """What is expected of the deployment's next run; None if too little is known."""
        ...

    def refresh(self) -> None:
        """Update the outlooks if they are old; does not block."""
        ...

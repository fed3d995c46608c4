"""Steers Prefect work queues and pools by what lateness, failure and capacity cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_intelligent.flow.decorator import attach as attach
    from prefect_intelligent.flow.decorator import intelligent as intelligent
    from prefect_intelligent.flow.decorator import publish as publish
    from prefect_intelligent.flow.quality_gate import quality_gate as quality_gate
    from prefect_intelligent.prefect_client.blocks import HistoryDatabase as HistoryDatabase
    from prefect_intelligent.prefect_client.blocks import MlflowServer as MlflowServer

__version__ = "0.2.0"

_EXPORTS = {
    "HistoryDatabase": "prefect_intelligent.prefect_client.blocks",
    "MlflowServer": "prefect_intelligent.prefect_client.blocks",
    "attach": "prefect_intelligent.flow.decorator",
    "intelligent": "prefect_intelligent.flow.decorator",
    "publish": "prefect_intelligent.flow.decorator",
    "quality_gate": "prefect_intelligent.flow.quality_gate",
}
_BLOCKS = ("HistoryDatabase", "MlflowServer")
__all__ = ["HistoryDatabase", "MlflowServer", "__version__", "attach", "intelligent", "publish", "quality_gate"]


def __dir__() -> list[str]:
    """The blocks too: `prefect block register -m prefect_intelligent` looks here for their types."""
    return sorted({*globals(), *_BLOCKS})


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing the package imports neither Prefect nor anything heavy."""
    if name in _EXPORTS:
        try:
            return getattr(import_module(_EXPORTS[name]), name)
        except ModuleNotFoundError as error:
            from prefect_intelligent.errors import missing_extra

            if (hint := missing_extra(name, error)) is None:
                raise
            raise hint from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

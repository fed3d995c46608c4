"""A fake tracking server in memory with the same keys as MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.faults import Faults
from prefect_intelligent.tracking.metrics import EVENTS, metric_points
from prefect_intelligent.tracking.outbox import OutboxEvent


class InMemoryTracker:
    """A `Tracker`.

    Attributes:
        points: (stream, name, time, step, value), each once.
        files: Stream and first and last place, to the event ids in the file.
        faults: Errors to raise, on the calls `log` and `archive`.
    """

    def __init__(self) -> None:
        self.points: set[tuple[str, str, float, int, float]] = set()
        self.files: dict[tuple[str, int, int], tuple[str, ...]] = {}
        self.faults = Faults(clock=ManualClock())

    def log(self, events: Sequence[OutboxEvent]) -> None:
        """Keep the numbers."""
        self.faults.strike("log")
        for point in metric_points(events):
            self.points.add((events[0].stream, point.name, point.at_s, point.step, point.value))

    def archive(self, events: Sequence[OutboxEvent]) -> None:
        """Keep the whole records."""
        self.faults.strike("archive")
        self.files[(events[0].stream, events[0].place, events[-1].place)] = tuple(p.entry.id for p in events)

    def events(self) -> int:
        """How many events have arrived, over all streams."""
        counts: dict[str, float] = {}
        for stream, name, _, _, value in self.points:
            if name == EVENTS:
                counts[stream] = max(value, counts.get(stream, 0.0))
        return round(sum(counts.values()))

"""Fast time: a day passes on a real server in a fraction of a day.

The server, its database and its worker know nothing of it: to them the runs are short and come quickly. A controller
reads and writes the server only through `FastApi`, which moves every instant in an answer from the server's time into
the day's and every instant in a request back, and it has a `FastClock`. So every age, deadline, duration, rate and
interval that it computes is in seconds of the day, and none of its settings is changed. What takes time by itself
(calls, computing, writing) is not faster, so it lasts `factor` times as long in the day.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.ports import WakeUps

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FastTime:
    """Which instant of the day it is at an instant of the clock, all Unix seconds.

    Attributes:
        begin_s: When the day begins, by the clock.
        day_begin_s: The same instant in the day.
        factor: Seconds of the day in a second of the clock.
    """

    begin_s: float
    day_begin_s: float
    factor: float

    def in_day(self, at_s: float) -> float:
        """An instant of the clock, in the day."""
        return self.day_begin_s + (at_s - self.begin_s) * self.factor

    def on_clock(self, at_s: float) -> float:
        """An instant of the day, by the clock."""
        return self.begin_s + (at_s - self.day_begin_s) / self.factor


class FastClock:
    """Implements `Clock` with the time of the day."""

    def __init__(self, fast: FastTime) -> None:
        self._fast = fast

    def now_s(self) -> float:
        """The present instant of the day, Unix seconds."""
        return self._fast.in_day(time.time())

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of the day."""
        time.sleep(max(0.0, seconds / self._fast.factor))


class FastApi(PrefectApi):
    """A client of a Prefect server whose instants it gives and takes in the time of the day."""

    def __init__(self, fast: FastTime) -> None:
        super().__init__()
        self._fast = fast

    def send(
        self, method: str, route: str, body: Any, absent_ok: bool, tries: int, *, may_shorten: bool = False
    ) -> Any:
        """One request, by itself or for a page; see `PrefectApi.send`."""
        sent = move_instants(body, self._fast.on_clock)
        answer = super().send(method, route, sent, absent_ok, tries, may_shorten=may_shorten)
        return move_instants(answer, self._fast.in_day)

    def now_s(self) -> float:
        """The present instant of the day by the server's clock, Unix seconds."""
        return self._fast.in_day(super().now_s())


class FastWakeUps:
    """Implements `WakeUps`; time-outs are in seconds of the day."""

    def __init__(self, inner: WakeUps, factor: float) -> None:
        self._inner, self._factor = inner, factor

    def wait(self, timeout_s: float) -> bool:
        """Block until something happened (True) or the time is over (False)."""
        return self._inner.wait(timeout_s / self._factor)

    def close(self) -> None:
        """Stop listening."""
        self._inner.close()


def move_instants(data: Any, move: Callable[[float], float]) -> Any:
    """A copy of JSON data in which every text that is an instant with an offset is another instant."""
    if isinstance(data, dict):
        return {name: move_instants(value, move) for name, value in data.items()}
    if isinstance(data, list):
        return [move_instants(value, move) for value in data]
    if isinstance(data, str) and len(data) < 40 and _INSTANT.fullmatch(data):
        return iso(move(unix_s(data)))
    return data

"""The event log: what has happened, when, to which run. It is kept only where the state was made with room for it."""

from __future__ import annotations

from typing import Final

from prefect_intelligent.twin.engine.jit import code, inlined
from prefect_intelligent.twin.model.state import StateRow

ENTERED: Final = code(1)  # a run is in its queue; where = queue, value = its scheduled time
CLAIMED: Final = code(2)  # it takes a slot; where = queue, value = number of slots held in the pool then
STARTED: Final = code(3)  # it runs; where = queue, value = seconds since the claim
ENDED: Final = code(4)  # an attempt frees its slot; where = how (a phase), value = seconds it was held
DONE: Final = code(5)  # the run is over; where = phase, value = seconds late (below 0 is early, -inf: no deadline)
RETRY: Final = code(6)  # it will be tried again; where = queue, value = when
BOUNCED: Final = code(7)  # its deployment was full: away from the queue for a while; where = queue, value = until when
RELEASED: Final = code(8)  # all its upstreams have completed; where = queue
LATE: Final = code(9)  # it passes its due instant; where = queue
OWNED: Final = code(10)  # slots that are paid for change; where = pool, value = slots
PRICED: Final = code(11)  # the price changes; where = pool, value = US dollars per slot hour
PLANNED: Final = code(12)  # a limit or an order was set; where = pool, value = pool limit
PLACED: Final = code(13)  # a claimed run gets the slot of a node; where = pool, value = seconds since the claim


@inlined
def append(state: StateRow, kind: int, run: int, where: int, value: float) -> None:
    """Append one entry, if there is a log."""
    if state.log.shape[0] > 0:
        entry = state.log[state.totals[0].logged]
        entry.at_s, entry.kind, entry.run, entry.where, entry.value = state.totals[0].now_s, kind, run, where, value
        state.totals[0].logged += 1

"""The event log: what happened, when, to which run. Written only where the state was made with room for it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from prefect_intelligent.twin.engine.jit import code, inlined

ENTERED: Final = code(1)  # a run is in its queue; where = queue, value = its scheduled time
CLAIMED: Final = code(2)  # it takes a slot; where = queue, value = number of slots held in the pool then
STARTED: Final = code(3)  # it runs; where = queue, value = seconds since the claim
ENDED: Final = code(4)  # an attempt frees its slot; where = how (a phase), value = seconds it was held
DONE: Final = code(5)  # the run is over; where = phase, value = seconds late (below 0 is early, -inf: no deadline)
RETRY: Final = code(6)  # where = queue, value = when
BOUNCED: Final = code(7)  # its deployment was full: back in the queue; where = queue, value = when
RELEASED: Final = code(8)  # all its upstreams have completed; where = queue
LATE: Final = code(9)  # passes its due instant; where = queue
OWNED: Final = code(10)  # slots that are paid for change; where = pool, value = slots
PRICED: Final = code(11)  # where = pool, value = dollars per slot hour
PLANNED: Final = code(12)  # a limit or an order was set; where = pool, value = pool limit
SEATED: Final = code(13)  # a claimed run gets the slot of a node; where = pool

NAMES: Final = {value: name.lower() for name, value in dict(globals()).items() if isinstance(value, np.int64)}


@inlined
def append(state: Any, kind: int, run: int, where: int, value: float) -> None:
    """Append one entry, if there is a log."""
    if state.log.shape[0] > 0:
        entry = state.log[state.clock[0].logged]
        entry.at_s, entry.kind, entry.run, entry.where, entry.value = state.clock[0].now_s, kind, run, where, value
        state.clock[0].logged += 1

"""A model of a Prefect work pool that runs thousands of times faster than the clock, for training, replay and what-if.

Read first:
    model/event_loop.py  what happens next in a world, and in which order things happen at one instant
    model/dispatch.py    how a poll claims runs; `model/run_lifecycle.py` has what happens to a run before and after
    simulator.py         `Twin`, a batch of worlds with their state, as Python calls it

Ports: none, the twin does no I/O
Command: `prefect-intelligent replay`
How-to: docs/how-to/replay-your-history.md
Explained in: docs/explanation/twin.md

One run's way through a world:

    what happens               function                   file                    and the run is then
    it is created and due      enter                      model/run_lifecycle.py  WAITING in the heap of its queue
    a poll claims it           poll -> dispatch -> claim  model/dispatch.py       PENDING with a slot of queue and pool
    its start-up begins        place_on_node              model/nodes.py          PENDING with a slot of a node
    it begins to run           start                      model/run_lifecycle.py  RUNNING in its contention group
    it ends                    end                        model/run_lifecycle.py  without a slot
    it calls its children      call_children -> go_on     model/children.py       RUNNING, with its slot but no work
    it is tried again or over  retry_or_finish            model/run_lifecycle.py  DELAYED, RESUMING; COMPLETED, FAILED

A run without upstreams enters at its scheduled time, or up to the prefetch time before; one with upstreams when
`release` is called because they have done what it waits for; a child when its parent calls it. Where the workers of a
pool are told apart, `poll_as` (model/workers.py) takes the place of `poll`. `event_loop.run_until` calls these
functions, some of them through timers (`model/timers.py`), and charges for the time between two events.

The state is in tables with one record per run, queue, pool and so on: `model/world.py` declares what is given
(`World`), `model/state.py` what changes (`State`). A function gets one world of a batch as `world: WorldRow, state:
StateRow` and calls a record `run_spec = world.runs[run]` or `run_state = state.runs[run]`; the Protocols say what each
field means.

Folders: `model/` is the model of Prefect. `engine/` makes it fast and knows nothing of Prefect. The files beside them
build worlds (`spec`, `build`, `from_history`, `from_snapshot`, `cloud_prices`) and run them (`simulator` with `batch`,
`closed_loop`, `planner`).
"""

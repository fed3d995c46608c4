"""The model of Prefect: what happens to a run, and the tables in which it happens; the map is in `twin`.

Names mean the same in every function: `run`, `queue`, `pool`, `deployment` and `group` are numbers of rows, `..._spec`
is the record of that row in the world and `..._state` the one in the state. Phases say where a run is (`state`), timers
what is to be done later (`timers`), entries of the log what has happened (`event_log`).
"""

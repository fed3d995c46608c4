"""Independent parts of a computation, done by processes of this machine or by a Dask cluster.

Read first:
    spread.py   what a part is, and processes that do them
    dask.py     the same as Prefect task runs on Dask
    packing.py  folders that travel

Ports: Spread
Command: `python -m rl.fit --jobs N`, `--dask ADDRESS`
How-to: docs/how-to/train-a-policy.md
"""

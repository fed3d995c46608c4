"""What processes on one machine share through files: a spool of records, and liveness keys. Standard library only.

Read first:
    spool.py            append-only folder of records: hooks write, the shipper empties it
    liveness.py         small files that say until when another process does a task
    record_versions.py  the version of each kind of record, and how older ones are read

Ports: none
Command: none, `prefect-intelligent ship` empties the spool
Explained in: docs/reference/spool.md
"""

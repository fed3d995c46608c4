"""Claims on deployments: temporary changes under a key, which any process can revert and none depends on another.

A deployment may have several claims at once (held for a dataset, limited because a warehouse is overloaded, given more
memory). Each is a Prefect variable of its own. The settings in force follow from the claims of a deployment: no slot if
any holds it, else the least share, the largest memory, all hosts to avoid. Owners go on deploying meanwhile: what they
set is seen, kept and given back at the end, and the claim is put in force again.

Read first:
    in_force.py       claim, release and mend: compares what should stand with what the server has
    limits.py         holds and shares: the slots of a deployment's own concurrency limit
    records.py        the variables: claims, and the values of owners that a claim has replaced

Ports: none
Command: none, features call it from their adapters
"""

"""The twin against code that nobody here wrote the twin from: `python -m simulations.validate --foreign`.

Read first:
    jobshop.py  classic job shops under dispatching rules, against JobShopLib
    shop_planner.py  the planner on job shops
    networks.py queueing networks, customer by customer, against Ciw
    nodes.py    bought slots, against a model of nodes in SimPy
"""

"""A pool's history turned into a scenario of it: `python -m simulations.calibrate`."""

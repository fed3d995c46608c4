"""The control loop of one pool: observe, decide, guard, apply, record."""

"""Use cases, one a module; they take ports as arguments."""

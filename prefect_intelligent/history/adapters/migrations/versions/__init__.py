"""One file per schema of the history, in the order of their numbers."""

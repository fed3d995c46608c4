"""Whether data is good, and what is done when it is not."""

"""Memory use as other systems record it."""

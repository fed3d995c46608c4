"""History in, findings out: durations, failures, analytics, health, recommendations."""

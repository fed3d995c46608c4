"""What `rl.evaluate` says of policies: comparisons with their statistics, lower bounds, pictures and the report."""

"""What runs in a flow's own process: the decorator, the hooks and the quality gate."""

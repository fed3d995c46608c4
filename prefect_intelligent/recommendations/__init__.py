"""What would save money: candidates, their saving by replay, and applying one."""

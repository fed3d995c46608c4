"""How long runs take and how likely they are to fail."""

"""What happened, what it cost, how healthy each deployment is, and what is wrong now."""

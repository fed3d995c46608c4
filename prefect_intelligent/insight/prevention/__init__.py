"""What is done before runs fail: rules that look at history, say what is wrong, and ask for a measure. Pure."""

"""What is done before runs fail: rules over evidence, measures, and their scores."""

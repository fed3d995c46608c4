"""What processes on one machine share through files: spools and liveness."""

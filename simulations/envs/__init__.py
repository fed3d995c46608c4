"""Reinforcement-learning environments over batches of simulated pools."""

"""Learning: network, training, tuning of rules, evaluation, export, registration."""

"""Training: the one loop, and the one rule for inner choices."""

"""Scores of predictions: pure numpy functions with frozen cards."""

"""Slide-level tasks: cards, protocols, folds, cells and results."""

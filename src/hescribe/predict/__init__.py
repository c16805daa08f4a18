"""Predictors: expression of every spot from its histology."""

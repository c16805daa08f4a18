"""Completers: what a missing count would have been."""

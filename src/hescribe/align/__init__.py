"""Aligners: what a spot looks like and what it expresses, in one space."""

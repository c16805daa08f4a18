"""Nearest neighbours of any vectors: who they are, what they weigh, and their mean."""

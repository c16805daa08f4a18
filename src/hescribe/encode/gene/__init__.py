"""Encoders of expression: raw counts of spots to vectors, each with the scaling it was made for."""

"""Sections, cohorts, images and the readers that bring them in."""

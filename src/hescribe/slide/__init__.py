"""Slide-level models: what a slide, or a donor, is, learned from bags of tiles; one model a file."""

"""Image encoders and the features they give."""

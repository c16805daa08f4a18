"""The benchmark of HESCAPE: image encoders, gene encoders and losses, judged by retrieval on held-out donors."""

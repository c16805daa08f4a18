"""Data experts: tiles in clusters, who teaches which expert, and whom a tile is sent to."""

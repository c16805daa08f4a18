"""Contract tests that any component, ours or yours, must pass."""

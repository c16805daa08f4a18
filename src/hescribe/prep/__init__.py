"""Preparation: fitted on train, applied to anything."""

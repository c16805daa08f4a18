"""Every registered aligner keeps the contract."""

from hescribe.testing.aligners import TestAlignerContract, cohort

__all__ = ["TestAlignerContract", "cohort"]

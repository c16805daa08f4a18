"""Every registered predictor keeps the contract."""

from hescribe.testing.predictors import TestPredictorContract, cohort

__all__ = ["TestPredictorContract", "cohort"]

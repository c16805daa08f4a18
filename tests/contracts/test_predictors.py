"""Every registered predictor keeps the contract."""

from hescribe.testing.predictors import TestGeneWiseContract, TestPredictorContract, cohort

__all__ = ["TestGeneWiseContract", "TestPredictorContract", "cohort"]

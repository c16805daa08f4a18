"""Every registered slide model keeps the contract."""

from hescribe.testing.slide_models import TestSlideModelContract, toy

__all__ = ["TestSlideModelContract", "toy"]

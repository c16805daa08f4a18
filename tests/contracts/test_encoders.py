"""Every registered image encoder keeps the contract."""

from hescribe.testing.encoders import TestEncoderContract, encoder

__all__ = ["TestEncoderContract", "encoder"]

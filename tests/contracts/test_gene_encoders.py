"""Every registered gene encoder keeps the contract."""

from hescribe.testing.gene_encoders import TestGeneEncoderContract, counted, gene_encoder

__all__ = ["TestGeneEncoderContract", "counted", "gene_encoder"]

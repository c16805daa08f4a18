"""Every registered completer keeps the contract."""

from hescribe.testing.completers import TestCompleterContract, section

__all__ = ["TestCompleterContract", "section"]

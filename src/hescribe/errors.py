"""Every error and warning the package raises. Catch ``HescribeError`` to catch them all."""

from typing import Any


class HescribeError(Exception):
    """Base of all package errors."""


class InputError(HescribeError, ValueError):
    """A value given by the caller is wrong: the message names it and says what would be right."""


class PanelError(InputError):
    """Genes of two tables do not match."""


class UnitsError(InputError):
    """A physical scale is missing, absurd or contradicts another."""


class SchemaError(InputError):
    """A file or table breaks its format; holds all problems, each with its place."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.where, self.problems = where, problems
        one = f"{where}: {problems[0]}" if problems else where
        more = "".join(f"\n  - {p}" for p in problems)
        super().__init__(one if len(problems) < 2 else f"{where} has {len(problems)} problems:{more}")


class NotFittedError(HescribeError, RuntimeError, AttributeError):
    """A learned method was called before ``fit``, or lacks what ``fit`` leaves behind."""


class UnknownNameError(InputError, LookupError):
    """A registry has no entry of that name; the message suggests close ones."""


class MissingDependencyError(HescribeError, ImportError):
    """An optional dependency is absent; the message names the extra to install."""


class DataAccessError(HescribeError, OSError):
    """A file cannot be read or written."""


class FormatError(DataAccessError):
    """A file is damaged or is not of the format it claims."""


class LeakageError(HescribeError):
    """Information of the test sections could reach the model. Never a warning."""


class TrainingError(HescribeError, RuntimeError):
    """A training run diverged or cannot go on; ``weights`` are the last good ones by name, None if there are none."""

    def __init__(self, message: str, weights: dict[str, Any] | None = None) -> None:
        self.weights = weights
        super().__init__(message)

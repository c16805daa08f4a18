"""What contrastive predictors choose from, and what their parameters may be."""

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.errors import InputError
from hescribe.predict._bank import Retrieval

EPOCHS = (5, 10, 20)  # shortest first
KS = (400, 200, 100, 50)  # smoothest first
# Softer by two than the pairs of a batch were told apart: of a new donor, no train spot is the other half.
CORRECTED = Retrieval(weighting="softmax", temperature=2.0)
LIMITS = (
    ("n_components", 1, np.inf), ("epochs", 1, np.inf), ("k", 1, np.inf), ("dropout", 0, 0.99), ("lr", 0, np.inf),
    ("weight_decay", 0, np.inf), ("batch_size", 2, np.inf), ("seed", 0, np.inf),
)  # fmt: skip


def n_kept(train: Cohort) -> int:
    """Return the number of kept spots, which is the size of the bank."""
    return int(sum(s.kept.sum() for s in train))


def check_pairs(train: Cohort, k: int | None) -> None:
    """Raise ``InputError`` if there are too few spots to tell apart, or to average k of."""
    n_spots = n_kept(train)
    if n_spots < 2:
        raise InputError(f"a contrastive predictor needs at least 2 train spots to tell apart, got {n_spots}")
    if k is not None and k > n_spots:
        raise InputError(f"k must be between 1 and the {n_spots} training spots, got {k}")

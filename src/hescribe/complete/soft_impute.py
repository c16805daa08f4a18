"""Low rank: every section is its genes' means plus a few programmes of genes that were learned in training.

Mazumder, Hastie and Tibshirani, Spectral regularization algorithms for learning large incomplete matrices, JMLR 2010.
We differ: programmes are learned on train sections by alternating ridge regressions (Hastie et al., JMLR 2015), and a
new section's spots are placed on them by their visible values.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.centred import Centred
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params


@dataclass(kw_only=True)
class SoftImputeCompleter(Params):
    """A few programmes of genes, on values less the section's visible mean.

    Parameters
    ----------
    rank
        Number of programmes.
    penalty
        Draws the place of a spot on them to 0, in values.
    n_rounds
        Rounds of the alternating regressions.
    seed
        Of the start.
    """

    name: ClassVar[str] = "soft_impute"
    card: ClassVar[MethodCard] = MethodCard(
        summary="low-rank matrix completion: a few programmes of genes", paper="Mazumder et al., JMLR 2010"
    )
    rank: int = 8
    penalty: float = 10.0
    n_rounds: int = 15
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the programmes from the measured values of the train sections."""
        self.check_between("rank", 1)
        self.check_between("penalty", 1e-6)
        self.check_between("n_rounds", 1)
        self.check_between("seed", 0)
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        parts = [Centred.of(View.of(s), self.mean_) for s in train]
        residual, known = (np.concatenate(x) for x in zip(*((p.residual, p.view.observed) for p in parts), strict=True))
        rank = min(self.rank, *residual.shape)
        loading = np.random.default_rng(self.seed).normal(size=(residual.shape[1], rank))
        for _ in range(self.n_rounds):
            score = _regress(residual, known, np.linalg.qr(loading)[0] * np.sqrt(len(loading)), self.penalty)
            loading = _regress(residual.T, known.T, score, self.penalty)
        self.loading_ = np.linalg.qr(loading)[0] * np.sqrt(len(loading))
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the section's mean and the programmes of every spot."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        centred = Centred.of(View.of(section), self.mean_)
        score = _regress(centred.residual, centred.view.observed, self.loading_, self.penalty)
        return Completion(centred.mean + score @ self.loading_.T)


def _regress(y: np.ndarray, known: np.ndarray, x: np.ndarray, penalty: float) -> np.ndarray:
    """Return the ridge weights of each row of ``y`` on ``x`` over its known entries.

    Parameters
    ----------
    y, known
        Shape ``(n_rows, n)``; ``y`` is 0 where it is not known.
    x
        Shape ``(n, rank)``.

    Returns
    -------
    Shape ``(n_rows, rank)``.
    """
    rank = x.shape[1]
    squares = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)  # (n, rank * rank)
    gram = (known.astype(np.float64) @ squares).reshape(-1, rank, rank)
    gram[:, range(rank), range(rank)] += penalty
    return np.linalg.solve(gram, (y @ x)[:, :, None])[:, :, 0]

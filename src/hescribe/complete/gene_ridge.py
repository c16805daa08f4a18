"""Gene ridge: each gene from the other genes of the spot, and from all genes of the spots that touch it."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import linalg

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.centred import Centred
from hescribe.complete.hiding import DepthSeen, Lesson, Missing, draw_lesson, learned_shares
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.prep.graph import spot_graph
from hescribe.prep.split import inner_folds

ALPHAS = (1e6, 3e5, 1e5, 3e4, 1e4, 3e3, 1e3)  # strongest first
MAX_GENES = 256  # every gene has a system of four inputs a gene to solve
MIN_ROWS = 10  # a gene known in fewer spots keeps the mean of the section


@dataclass(kw_only=True)
class GeneRidgeCompleter(Params):
    """One ridge regression a gene, on values less the section's visible mean.

    It learns from the train sections with a share of their counts hidden, once for all shares.

    Parameters
    ----------
    spatial
        Whether the mean over touching spots, and how many of them show a gene, are inputs too.
    alpha
        Penalty; None: chosen among 10^3 to 10^6 by the inner rule.
    hide
        Share of the measured counts hidden in training; half of every count where anything may be missing.
    missing, depth_seen
        What is learned: see ``complete.hiding.draw_lesson``.
    seed
        Of what is hidden.
    """

    name: ClassVar[str] = "gene_ridge"
    card: ClassVar[MethodCard] = MethodCard(summary="ridge of each gene on the other genes and on the touching spots")
    spatial: bool = True
    alpha: float | None = None
    hide: float = 0.4
    missing: Missing = "measured"
    depth_seen: DepthSeen = "visible"
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - the inner rule decides
        """Learn the weights of every gene."""
        self.check_between("hide", 0.01, 0.99)
        self.check_between("alpha", 1e-3)
        self.check_between("seed", 0)
        if len(train.genes) > MAX_GENES:
            raise InputError(
                f"gene_ridge is for at most {MAX_GENES} genes, and there are {len(train.genes)}; choose fewer, or use "
                "another completer such as soft_impute"
            )
        self.genes_, self.mean_ = train.genes, fit_gene_means(train)
        self.alpha_ = self._choose(train) if self.alpha is None else self.alpha
        systems = self._systems(self._lessons(train))
        self.x_mean_, self.x_sd_ = systems.x_mean, systems.x_sd
        coef, intercept = systems.solve((self.alpha_,))
        self.coef_, self.intercept_ = coef[0], intercept[0]
        return self

    def estimate(self, section: Section) -> Completion:
        """Return what the other genes say of every entry."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        centred = Centred.of(View.of(section), self.mean_)
        x = (self._inputs(centred) - self.x_mean_) / self.x_sd_
        return Completion(centred.mean + x @ self.coef_ + self.intercept_)

    def _choose(self, train: Cohort) -> float:
        """Return the penalty with the least squared error on the first inner fold: one pair of donors, or stripes."""
        inner, outer = inner_folds(train)[0]
        systems = self._systems(self._lessons(inner))
        squares, n = np.zeros(len(ALPHAS)), 0
        weights = list(zip(*systems.solve(ALPHAS), strict=True))
        for lesson in self._lessons(outer):
            centred = Centred.of(View.of(lesson.section), self.mean_)
            x = (self._inputs(centred) - systems.x_mean) / systems.x_sd
            wanted = lesson.answer - centred.mean
            squares += [(((x @ coef + intercept - wanted) ** 2)[lesson.where]).sum() for coef, intercept in weights]
            n += int(lesson.where.sum())
        if not n:
            raise InputError("no count of the train cohort could be hidden to choose a penalty on; give alpha")
        return ALPHAS[int(np.argmin(squares))]

    def _lessons(self, train: Cohort) -> list[Lesson]:
        share, _ = learned_shares(self.missing, (self.hide, self.hide))
        return [
            draw_lesson(
                s, share, np.random.default_rng([self.seed, i]), missing=self.missing, depth_seen=self.depth_seen
            )
            for i, s in enumerate(train)
        ]

    def _inputs(self, centred: Centred) -> np.ndarray:
        """Return residual and visibility of every gene, of the spot and around it, shape ``(n_spots, n_inputs)``."""
        inputs = [centred.residual, centred.view.observed.astype(np.float32)]
        if self.spatial:
            inputs += centred.around(spot_graph(centred.view.section) > 0)
        return np.hstack(inputs).astype(np.float32)

    def _systems(self, lessons: list[Lesson]) -> "_Systems":
        centred = [Centred.of(View.of(lesson.section), self.mean_) for lesson in lessons]
        answer = np.concatenate([x.answer - c.mean for x, c in zip(lessons, centred, strict=True)])
        # Its own value never being an input, a gene may learn from visible counts as well as from hidden ones.
        known = [
            c.view.observed | x.where if self.missing == "measured" else x.where
            for x, c in zip(lessons, centred, strict=True)
        ]
        return _Systems.of(np.concatenate([self._inputs(c) for c in centred]), answer, np.concatenate(known))


@dataclass(frozen=True)
class _Systems:
    """The ridge regression of every gene, on standardised inputs.

    Parameters
    ----------
    x_mean, x_sd
        Of the inputs, shape ``(n_inputs,)``.
    x
        Standardised inputs, shape ``(n_spots, n_inputs)``.
    y, known
        Answers, and where they are known, shape ``(n_spots, n_genes)``.
    """

    x_mean: np.ndarray
    x_sd: np.ndarray
    x: np.ndarray
    y: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, known: np.ndarray) -> "_Systems":
        x_mean, x_sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        return cls(x_mean, x_sd, (x - x_mean) / x_sd, y, known)

    def solve(self, alphas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return weights, shape ``(n_alphas, n_inputs, n_genes)``, and intercepts, shape ``(n_alphas, n_genes)``."""
        n_genes, n_inputs = self.y.shape[1], self.x.shape[1]
        coef = np.zeros((len(alphas), n_inputs, n_genes), np.float32)
        intercept = np.zeros((len(alphas), n_genes), np.float32)
        whole = self.x.T @ self.x
        for gene in range(n_genes):
            rows = self.known[:, gene]
            if rows.sum() < MIN_ROWS:
                continue
            others = np.ones(n_inputs, dtype=bool)
            others[[gene, n_genes + gene]] = False  # its own value and whether it is visible
            left, centre = self.x[~rows], self.x[rows].mean(axis=0)
            target = self.y[rows, gene] - self.y[rows, gene].mean()
            gram = (whole - left.T @ left - rows.sum() * np.outer(centre, centre))[np.ix_(others, others)]
            power, basis = linalg.eigh(gram.astype(np.float64), driver="evd")
            load = basis.T @ (self.x[rows].T @ target)[others]
            for a, alpha in enumerate(alphas):
                coef[a, others, gene] = basis @ (load / (np.maximum(power, 0) + alpha))
                intercept[a, gene] = self.y[rows, gene].mean() - centre @ coef[a, :, gene]
        return coef, intercept

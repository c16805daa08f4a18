"""Nearest neighbours in feature space: the mean expression of the k most similar training spots.

Retrieval predictors also average training spots, so this is the floor that they must beat.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._bank import Bank, Index, Retrieval
from hescribe.predict.base import Prediction
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

KS = (200, 100, 50, 20, 10, 5)  # smoothest first


@dataclass(kw_only=True)
class KNNPredictor(Params):
    """Average the k training spots whose image features have the highest cosine.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    k
        Number of neighbours; None chooses among 5 to 200 by the inner rule, with the exact search.
    index
        ``"exact"``, or ``"ivf"`` for the approximate search in large banks, which needs the extra ``[retrieval]``; the
        share of the true neighbours that it finds is part of the prediction.
    """

    name: ClassVar[str] = "knn"
    card: ClassVar[MethodCard] = MethodCard(summary="mean of the training spots that look most alike")
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    k: int | None = None
    index: Index = "exact"
    _restored: Bank | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Store the bank of training spots."""
        x = self._inputs().read_kept(train)
        if self.k is not None and not 1 <= self.k <= len(x):
            raise InputError(f"k must be between 1 and the {len(x)} training spots, got {self.k}")
        view_um = self._inputs().view_um(train)
        k = choose(train, KS, self._fit_path, view_um=view_um, val=val) if self.k is None else self.k
        scale = Scale.of(x)
        x = scale.apply(x)
        self.genes_, self.k_, self.bank_ = train.genes, min(k, len(x)), Bank.of(train, x).state()
        self.x_mean_, self.x_sd_, self.novelty_ = scale.mean, scale.sd, vars(Novelty.fit(x))
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        x = self._query(section)
        mean, recall = self._bank().answer(x, self.k_, self._retrieval())
        return Prediction(mean, self.genes_, ood=Novelty(**self.novelty_).score(x), recall=recall)

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks, from the same bank: see ``GeneWise``."""
        self.check_fitted()
        genes: list[str] = []
        values = []
        for block in blocks:
            genes += block.genes
            values.append(block.stack(keys.TARGET))  # noqa: PD013 - a cohort's, not pandas'
        wide = {"genes_": tuple(genes), "bank_": {**self.bank_, "values": np.hstack(values)}}
        return self.with_params().set_fitted({**self.get_fitted(), **wide})

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that the prediction of every spot rests on: see ``Bank.explain``."""
        return self._bank().explain(self._query(section), section.table.obs_names, self.k_, self._retrieval())

    def _inputs(self) -> SpotInputs:
        return SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=self.n_rings, standardise=self.standardise)

    def _retrieval(self) -> Retrieval:
        return Retrieval(index=self.index)

    def _bank(self) -> Bank:
        """Return the bank, the same object at every call: an approximate index is built once."""
        if self._restored is None or self._restored.vectors is not self.bank_.get("vectors"):
            self._restored = Bank.restore(self.bank_)
        return self._restored

    def _query(self, section: Section) -> np.ndarray:
        self.check_fitted()
        return Scale(self.x_mean_, self.x_sd_).apply(self._inputs().read(section))

    def _fit_path(self, train: Cohort) -> PredictEach:
        x = self._inputs().read_kept(train)
        scale = Scale.of(x)
        bank = Bank.of(train, scale.apply(x))
        return lambda section: bank.means(scale.apply(self._inputs().read(section)), KS, Retrieval())

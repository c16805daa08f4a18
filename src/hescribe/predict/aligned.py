"""A plain head on the image embedding of an aligner: what alignment keeps of what predicts expression.

HESCAPE (Gindra et al., 2025, arXiv:2508.01490) finds that image encoders predict expression worse after contrastive
training. Its heads were fitted on spots of the sections that were tested; here aligner and head are fitted on the
train donors alone, and what the head chooses is chosen on donors that the aligner has not seen either.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from hescribe import keys
from hescribe.align.base import Aligner
from hescribe.align.infonce import InfoNCEAligner
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._bank import Bank, Retrieval
from hescribe.predict.base import Prediction
from hescribe.predict.knn import KS
from hescribe.predict.ridge import ALPHAS, RidgePath
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.train.inner import PredictEach, choose

ALIGNER = "aligner_"  # start of the names of what the aligner learned


@dataclass(kw_only=True)
class AlignedPredictor(Params):
    """A ridge, or nearest neighbours, on the image embedding of an aligner that is fitted with it.

    Parameters
    ----------
    aligner
        Fitted on the train cohort first. Where it chooses its epochs, it does so once, on all train donors.
    head
        ``"ridge"`` or ``"knn"``; penalty or neighbours are chosen by the inner rule, the aligner fitted again on each
        inner train cohort: its embeddings of spots whose expression it has seen are too good.
    seed
        Of the aligner, in place of its own.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = InfoNCEAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1)
    >>> AlignedPredictor(aligner=aligner).fit(cohort).predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "aligned"
    card: ClassVar[MethodCard] = MethodCard(
        summary="ridge or knn on the image embedding of an aligner",
        paper="Gindra et al., arXiv:2508.01490",
        differs="The aligner never sees a donor that the head is chosen or tested on.",
    )
    aligner: Aligner = field(default_factory=InfoNCEAligner)
    head: Literal["ridge", "knn"] = "ridge"
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the aligner, choose the head's parameter, and fit the head.

        Raises
        ------
        InputError
            If there is no such head; else see the aligner.
        """
        if self.head not in ("ridge", "knn"):
            raise InputError(f"head of AlignedPredictor must be 'ridge' or 'knn', got {self.head!r}")
        fitted: Any = self._aligner().fit(train, val=val)
        best = self._choose(fitted, train, val)
        x = _embed_kept(fitted, train)
        scale = Scale.of(x)
        x = scale.apply(x)
        self.genes_, self.x_mean_, self.x_sd_ = train.genes, scale.mean, scale.sd
        self.novelty_ = vars(Novelty.fit(x))
        if self.head == "ridge":
            path = RidgePath.fit(x, train.stack(keys.TARGET))
            self.alpha_, self.coef_, self.y_mean_ = best, path.coef(best), path.y_mean
        else:
            self.k_, self.bank_ = min(int(best), len(x)), Bank.of(train, x).state()
        return self.set_fitted({ALIGNER + name: value for name, value in fitted.get_fitted().items()})

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        of_aligner = {k.removeprefix(ALIGNER): v for k, v in self.get_fitted().items() if k.startswith(ALIGNER)}
        fitted = self._aligner().set_fitted(of_aligner)
        x = Scale(self.x_mean_, self.x_sd_).apply(fitted.embed_image(section))
        if self.head == "ridge":
            mean = x @ self.coef_ + self.y_mean_
        else:
            (mean,) = Bank.restore(self.bank_).means(x, (self.k_,), Retrieval())
        return Prediction(mean, self.genes_, ood=Novelty(**self.novelty_).score(x))

    def encoder_name(self) -> str | None:
        """Return the image encoder that the aligner reads."""
        return getattr(self.aligner, "encoder", None)

    def _choose(self, fitted: Any, train: Cohort, val: Cohort | None) -> float:
        """Return the penalty or the number of neighbours, by aligners that were fitted on inner train cohorts."""
        chosen = {"epochs": fitted.epochs_} if hasattr(fitted, "epochs_") else {}

        def fit_path(inner: Cohort) -> PredictEach:
            again = self._aligner(**chosen).fit(inner)
            x = _embed_kept(again, inner)
            scale = Scale.of(x)
            if self.head == "ridge":
                path = RidgePath.fit(scale.apply(x), inner.stack(keys.TARGET))
                return lambda section: path.predict_each(scale.apply(again.embed_image(section.blind())), ALPHAS)
            bank = Bank.of(inner, scale.apply(x))
            return lambda section: bank.means(scale.apply(again.embed_image(section.blind())), KS, Retrieval())

        candidates: tuple[float, ...] = ALPHAS if self.head == "ridge" else KS
        return choose(train, candidates, fit_path, view_um=self._view_um(train), val=val)

    def _aligner(self, **changes: object) -> Any:
        """Return the aligner, unfitted, with this seed if it draws random numbers."""
        drawn = {"seed": self.seed} if hasattr(self.aligner, "seed") else {}
        return self.aligner.with_params(**drawn, **changes)  # type: ignore[attr-defined]

    def _view_um(self, train: Cohort) -> float:
        """Return the width of the image that the aligner sees around a spot; 0 if it names no encoder."""
        encoder = self.encoder_name()
        if encoder is None:
            return 0.0
        fov_um, n_rings = getattr(self.aligner, "fov_um", None), getattr(self.aligner, "n_rings", 0)
        inputs = SpotInputs(encoder=encoder, fov_um=fov_um, n_rings=n_rings, standardise="train")
        return inputs.view_um(train)


def _embed_kept(fitted: Aligner, train: Cohort) -> np.ndarray:
    """Return the image embedding of the kept spots of all sections, shape ``(n_spots, n_dims)``."""
    return np.concatenate([fitted.embed_image(s.blind())[s.kept] for s in train])

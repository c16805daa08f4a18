"""BLEEP: retrieve expression with an image, in a space where both lie side by side.

Xie et al., "Spatially Resolved Gene Expression Prediction from H&E Histology Images via Bi-modal Contrastive
Learning", NeurIPS 2023, arXiv:2306.01859; the original is Apache-2.0, and this is our own code. We differ: embeddings
of length 1 with a temperature that is learned; targets are given, not trained; image features are reduced to
components, of which few donors can teach something; epochs and k are chosen on held-out train donors; and what is
retrieved is free of the level of its section. Expression is not batch-corrected: Harmony was run on genes, the test
section's too. ``legacy`` is the published way, on frozen features and without Harmony.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import Standardise, check_images
from hescribe.params import Params
from hescribe.predict._bank import Retrieval
from hescribe.predict._training import CORRECTED, EPOCHS, KS, LIMITS, check_pairs, n_kept
from hescribe.predict.base import Prediction
from hescribe.prep.scale import Scale

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._towers import Contrastive
    from hescribe.train.contrastive import Take

PUBLISHED_EPOCHS, PUBLISHED_K, PUBLISHED_DECAY, PUBLISHED_DROPOUT = 4, 50, 1e-3, 0.1
N_DIMS = 256  # of an embedding, as published
SHARE_TRAINED = 0.8  # of the spots, the published way; the others choose the epoch


@dataclass(kw_only=True)
class BleepPredictor(Params):
    """Average the train spots whose expression lies nearest to the image of a spot.

    Parameters
    ----------
    encoder, fov_um, n_rings, standardise
        What is read of the image: see ``SpotInputs``.
    frozen
        Read features of the encoder as it is, which are cached; False trains the encoder with the rest, on patches.
    tuning, rank, jitter
        Of an encoder that is trained: see ``TrainableEncoder``.
    n_components
        Image features are reduced to so many components of unit variance; None takes them as they are.
    epochs
        Passes over the train spots; None chooses among 5 to 20 by the inner rule, the published way 4.
    k
        Number of neighbours; None chooses among 50 to 400 by the inner rule, the published way 50.
    dropout
        Share of the inputs and of the units of a head that is left out in training.
    lr, weight_decay, batch_size, seed
        Of the training.
    legacy
        Train and retrieve as published: image features as they are, embeddings of any length at temperature 1,
        gradients through the targets, the epoch with the least loss on a fifth of the train spots.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = BleepPredictor(encoder="color", epochs=2, k=20).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "bleep"
    card: ClassVar[MethodCard] = MethodCard(
        summary="BLEEP, corrected: spots retrieved by image in a joint space, with soft targets",
        paper="Xie et al., NeurIPS 2023, arXiv:2306.01859",
    )
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 0
    standardise: Standardise = "train"
    frozen: bool = True
    tuning: Literal["full", "low_rank"] = "full"
    rank: int = 8
    jitter: float = 0.2
    n_components: int | None = 32
    epochs: int | None = None
    k: int | None = None
    dropout: float = 0.2
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    seed: int = 0
    legacy: bool = False

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train both heads and fill the bank.

        Raises
        ------
        InputError
            If a parameter is out of its limits or has no effect, or k is larger than the bank.
        """
        for name, low, high in LIMITS:
            self.check_between(name, low, high)
        check_pairs(train, self.k)
        check_images(self)
        if self.legacy:
            self.check_unchanged(("n_components", "dropout", "lr", "weight_decay", "batch_size"), given="legacy=True")
        way = self._way()
        if self.legacy:
            epochs, k = self.epochs or PUBLISHED_EPOCHS, min(self.k or PUBLISHED_K, n_kept(train))
            fitted = way.fit_best(train, epochs, share=SHARE_TRAINED)
        else:
            all_epochs, ks = (EPOCHS if self.epochs is None else (self.epochs,)), (KS if self.k is None else (self.k,))
            fitted, epochs, k = way.fit_chosen(train, all_epochs, ks, val=val)
        return self.set_fitted(way.state(train, fitted, epochs=epochs, k=k))

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        return self._way().predict(self.get_fitted(), section)

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that the prediction of every spot rests on: see ``Bank.explain``."""
        self.check_fitted()
        return self._way().explain(self.get_fitted(), section)

    def _way(self) -> "Contrastive":
        from hescribe.encode.patch_images import ENCODER_STEP, images_of  # noqa: PLC0415 - imports torch
        from hescribe.predict._towers import Contrastive  # noqa: PLC0415 - imports torch
        from hescribe.train.contrastive import soft_pair_loss  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        decay = PUBLISHED_DECAY if self.legacy else self.weight_decay
        step = 1.0 if self.legacy else ENCODER_STEP
        return Contrastive(
            images=images_of(self, self._head, scaled=not self.legacy, step=step),
            expression_side=self._expression_side,
            unit=not self.legacy,
            loss=partial(soft_pair_loss, legacy=self.legacy),
            recipe=Recipe(batch_size=self.batch_size, lr=self.lr, weight_decay=decay, seed=self.seed),
            retrieval=Retrieval() if self.legacy else CORRECTED,
            centre=not self.legacy,
        )

    def _head(self, n_in: int) -> "nn.Module":
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.train.contrastive import ProjectionHead  # noqa: PLC0415 - imports torch

        if self.legacy:
            return ProjectionHead(n_in, N_DIMS, dropout=PUBLISHED_DROPOUT)
        return nn.Sequential(nn.Dropout(self.dropout), ProjectionHead(n_in, N_DIMS, dropout=self.dropout))

    def _expression_side(self, train: Cohort) -> "tuple[nn.Module, Take]":
        from torch import from_numpy  # noqa: PLC0415 - heavy

        y = train.stack(keys.TARGET)  # noqa: PD013 - a cohort's, not pandas'
        values = from_numpy(np.asarray(y if self.legacy else Scale.of(y).apply(y), dtype=np.float32))
        return self._head(len(train.genes)), lambda rows: (values[rows],)

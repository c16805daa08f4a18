"""mclSTExp: BLEEP's retrieval, where a spot's expression is read together with that of other spots and their places.

Min et al., "Multimodal contrastive learning for spatial gene expression prediction using histology images", Briefings
in Bioinformatics 2024, bbae551. The published code has no licence; this is our own, from the equations. We differ: a
spot is read with its nearest neighbours of the same section, where the original reads it with whatever else is in the
batch; places are relative to the section, where the original shares tables of array places among all sections; and as
in ``bleep`` embeddings have length 1 and a learned temperature, epochs and k are chosen on held-out train donors, and
what is retrieved is free of the level of its section. ``legacy`` is the published way, on frozen features and with
AdamW, as the paper has it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import Standardise, check_images
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._bank import Retrieval
from hescribe.predict._training import CORRECTED, EPOCHS, KS, LIMITS, check_pairs, n_kept
from hescribe.predict.base import Prediction
from hescribe.prep.scale import Scale

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._towers import Contrastive
    from hescribe.train.contrastive import Take
    from hescribe.train.loop import Recipe

N_DIMS, N_TOKEN = 256, 128  # width of an embedding, as published, and of a token
PUBLISHED_EPOCHS, PUBLISHED_K, PUBLISHED_KEYS = 90, 200, 32  # the last: train spots embedded as one sequence
PUBLISHED_BATCH, PUBLISHED_LR, PUBLISHED_DECAY = 128, 1e-4, 1e-3
CORRECTED_ONLY = (
    "n_components", "n_neighbours", "n_layers", "n_heads", "place", "dropout", "lr", "weight_decay", "batch_size",
)  # fmt: skip


@dataclass(kw_only=True)
class MclstexpPredictor(Params):
    """Average the train spots whose expression, in its surroundings, lies nearest to the image of a spot.

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
    n_neighbours
        Nearest spots of the same section that a train spot is read with.
    n_layers, n_heads
        Of the attention among them.
    place
        Whether the place in the section is read too: from its middle, in halves of its longer side. It is read of
        train spots alone, and lies between -1 and 1 for any section.
    epochs
        Passes over the train spots; None chooses among 5 to 20 by the inner rule, the published way 90.
    k
        Number of neighbours; None chooses among 50 to 400 by the inner rule, the published way 200 or as many as
        there are.
    dropout
        Share of the inputs and of the units of a head that is left out in training.
    lr, weight_decay, batch_size, seed
        Of the training.
    legacy
        Train and retrieve as published: image features as they are; 128 spots of a batch are one sequence, 32 when
        the bank is filled; embeddings of any length at temperature 1; weights that fall with the square of the
        distance. What a train spot's embedding is then depends on which spots lie beside it in the table. It is read
        from the counts of the panel, normalised as published, whatever the target is.
    legacy_distance
        Of those weights: L1 as for HER2+, or L2 as for the other published cohorts.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = MclstexpPredictor(encoder="color", epochs=2, k=20).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "mclstexp"
    card: ClassVar[MethodCard] = MethodCard(
        summary="mclSTExp, corrected: as bleep, with expression read in its surroundings",
        paper="Min et al., Briefings in Bioinformatics 2024, bbae551",
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
    n_neighbours: int = 8
    n_layers: int = 2
    n_heads: int = 4
    place: bool = True
    epochs: int | None = None
    k: int | None = None
    dropout: float = 0.2
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 256
    seed: int = 0
    legacy: bool = False
    legacy_distance: Literal["l1", "l2"] = "l1"

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train both towers and fill the bank.

        Raises
        ------
        InputError
            If a parameter is out of its limits or has no effect, or k is larger than the bank.
        """
        self._check_params()
        check_pairs(train, self.k)
        check_images(self)
        way = self._way()
        if self.legacy:
            epochs, k = self.epochs or PUBLISHED_EPOCHS, min(self.k or PUBLISHED_K, n_kept(train))
            (fitted,) = way.fit(train, (epochs,))
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

    def _check_params(self) -> None:
        for name, low, high in (*LIMITS, ("n_neighbours", 0, np.inf), ("n_layers", 1, np.inf), ("n_heads", 1, np.inf)):
            self.check_between(name, low, high)
        self.check_unchanged(CORRECTED_ONLY if self.legacy else ("legacy_distance",), given=f"legacy={self.legacy}")
        if N_TOKEN % self.n_heads:
            raise InputError(f"n_heads of MclstexpPredictor must divide {N_TOKEN}, got {self.n_heads}")

    def _way(self) -> "Contrastive":
        from hescribe.encode.patch_images import ENCODER_STEP, images_of  # noqa: PLC0415 - imports torch
        from hescribe.predict._towers import Contrastive  # noqa: PLC0415 - imports torch
        from hescribe.train.contrastive import CHUNK, pair_loss  # noqa: PLC0415 - imports torch

        published = Retrieval(weighting="inverse_square", weigh_by=self.legacy_distance)
        step = 1.0 if self.legacy else ENCODER_STEP
        return Contrastive(
            images=images_of(self, self._image_tower, scaled=not self.legacy, step=step),
            expression_side=self._published_side if self.legacy else self._expression_side,
            unit=not self.legacy,
            loss=pair_loss,
            recipe=self._recipe(),
            retrieval=published if self.legacy else CORRECTED,
            chunk=PUBLISHED_KEYS if self.legacy else CHUNK,
            centre=not self.legacy,
        )

    def _recipe(self) -> "Recipe":
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        if self.legacy:
            return Recipe(batch_size=PUBLISHED_BATCH, lr=PUBLISHED_LR, weight_decay=PUBLISHED_DECAY, seed=self.seed)
        return Recipe(batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed)

    def _image_tower(self, n_in: int) -> "nn.Module":
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.train.contrastive import ProjectionHead  # noqa: PLC0415 - imports torch

        if self.legacy:
            return ProjectionHead(n_in, N_DIMS)
        return nn.Sequential(nn.Dropout(self.dropout), ProjectionHead(n_in, N_DIMS, dropout=self.dropout))

    def _expression_side(self, train: Cohort) -> "tuple[nn.Module, Take]":
        from hescribe.train.spot_encoder import SpotEncoder, Surroundings  # noqa: PLC0415 - imports torch

        y = train.stack(keys.TARGET)  # noqa: PD013 - a cohort's, not pandas'
        surroundings = Surroundings.of(train, Scale.of(y).apply(y), self.n_neighbours)
        encoder = SpotEncoder(
            len(train.genes), N_DIMS, n_token=N_TOKEN, n_heads=self.n_heads, n_layers=self.n_layers, place=self.place,
            dropout=self.dropout,
        )  # fmt: skip
        return encoder, surroundings.take

    def _published_side(self, train: Cohort) -> "tuple[nn.Module, Take]":
        from hescribe.predict._spot_encoder import BatchSpotEncoder, published_spots  # noqa: PLC0415 - imports torch

        values, place = published_spots(train)
        n_x, n_y = (int(axis.max()) + 1 for axis in place.T)
        encoder = BatchSpotEncoder(len(train.genes), N_DIMS, n_x=n_x, n_y=n_y)
        return encoder, lambda rows: (values[rows], place[rows])

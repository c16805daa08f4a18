"""The default aligner: colour and a network, each in two heads of its own, that learn what differs within a section.

A design of our own, made on synthetic cohorts (toy seeds 0-3). A slide's stain and depth would tell its spots from
those of other slides, and are of no use on a new one. So image features and, in training, expression are relative to
their section, a half is told from those of its own section alone, and views that err differently are averaged: an
embedding is those of all views beside each other, whose cosine is the mean of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from hescribe.align._towers import LIMITS, Head
from hescribe.align.siglip import Negatives, SigLIPAligner
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.gene.base import GeneEncoder
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import InputError
from hescribe.params import Params

VIEWS = ("color", "encoder")
N_COLOURS = 8  # of 22 numbers, most of which say the same: to scale up what is left also scales up what stain changes


@dataclass(kw_only=True)
class RobustAligner(Params):
    """SigLIP within sections, on colour and on a network, averaged.

    Parameters
    ----------
    encoder
        Image encoder beside colour.
    fov_um
        Sides of its patches; None takes those of its card.
    gene_encoder
        Fitted on the train cohort, and frozen.
    views
        Which of the two take part, for ablation; so are the next three.
    color_share
        Share of colour in the cosine of two embeddings; the network has the rest. Blur changes colour less. Of two
        views only.
    negatives
        Of which spots a half is told: see ``SigLIPAligner``.
    centre_expression, gene_head
        See ``TowerAligner``. The level of a new section moves what a linear head gives by one vector; two layers
        make it look like other spots.
    n_dims
        Length of the embedding of each view; that of the aligner is twice as long with two.
    epochs
        Passes over the train spots; None chooses them for each view: see ``TowerAligner``.
    lr, batch_size, seed
        Of the training.
    balance_donors
        See ``TowerAligner``.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> aligner = RobustAligner(encoder="color", gene_encoder=PCAEncoder(n_dims=4), epochs=1).fit(cohort)
    >>> aligner.embed_image(cohort[0].blind()).shape
    (49, 256)
    """

    name: ClassVar[str] = "robust"
    card: ClassVar[MethodCard] = MethodCard(
        summary="SigLIP within sections on colour and on a network, each relative to its section",
        transductive=True,
    )
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    gene_encoder: GeneEncoder = field(default_factory=PCAEncoder)
    views: tuple[str, ...] = VIEWS
    color_share: float = 0.5
    negatives: Negatives = "section"
    centre_expression: bool = True
    gene_head: Head = "linear"
    n_dims: int = 128
    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int = 256
    seed: int = 0
    balance_donors: bool = False

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train the heads of every view: see ``TowerAligner.fit``."""
        for name, low, high in LIMITS:
            if name in self.get_params():
                self.check_between(name, low, high)
        self.check_between("color_share", 0, 1)
        if len(self.views) == 1:
            self.check_unchanged(("color_share",), given="a single view")
        return self.keep({view: aligner.fit(train, val=val) for view, aligner in self.unfitted().items()})

    def refine(self, train: Cohort, parts: Sequence[np.ndarray], *, epochs: int, both: bool = False) -> list[Self]:
        """Return copies that have learned on from here: see ``align.base.Refines``."""
        views = {
            view: aligner.refine(train, parts, epochs=epochs, both=both)
            for view, aligner in zip(self.views, self._fitted(), strict=True)
        }
        return [self.with_params().keep({v: of_view[i] for v, of_view in views.items()}) for i in range(len(parts))]

    def check_weights(self) -> None:
        """Raise ``FormatError`` if the weights are not those of the heads: see ``align.base.ChecksWeights``."""
        for view in self._fitted():
            view.check_weights()

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its image, shape ``(n_spots, n_views * n_dims)``, length 1."""
        return self._beside([view.embed_image(section) for view in self._fitted()])

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its raw counts, shape ``(n_spots, n_views * n_dims)``, length 1."""
        return self._beside([view.embed_expression(section) for view in self._fitted()])

    def unfitted(self) -> dict[str, SigLIPAligner]:
        """Return the aligner of each view, not fitted yet."""
        network = SigLIPAligner(
            encoder=self.encoder,
            fov_um=self.fov_um,
            standardise="section",
            gene_encoder=self.gene_encoder,
            negatives=self.negatives,
            centre_expression=self.centre_expression,
            gene_head=self.gene_head,
            n_dims=self.n_dims,
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            seed=self.seed,
            balance_donors=self.balance_donors,
        )
        color = network.with_params(encoder="color", fov_um=None, n_components=N_COLOURS)
        every = dict(zip(VIEWS, (color, network), strict=True))
        if not self.views or set(self.views) - set(VIEWS) or len(set(self.views)) < len(self.views):
            raise InputError(f"views of RobustAligner are some of {', '.join(VIEWS)}, each once; got {self.views!r}")
        return {view: every[view] for view in self.views}

    def keep(self, fitted: dict[str, SigLIPAligner]) -> Self:
        """Keep what the aligner of each view has learned."""
        for view, aligner in fitted.items():
            self.set_fitted({f"{view}_{name}": value for name, value in aligner.get_fitted().items()})
        return self

    def _fitted(self) -> list[SigLIPAligner]:
        self.check_fitted()
        state: dict[str, Any] = self.get_fitted()
        return [
            aligner.set_fitted({k.removeprefix(f"{view}_"): v for k, v in state.items() if k.startswith(f"{view}_")})
            for view, aligner in self.unfitted().items()
        ]

    def _beside(self, embeddings: list[np.ndarray]) -> np.ndarray:
        """Return the embeddings of the views, of length 1, as one of length 1."""
        of_view = dict(zip(VIEWS, (self.color_share, 1 - self.color_share), strict=True))
        shares = [of_view[v] if len(self.views) > 1 else 1.0 for v in self.views]
        return np.hstack([x * np.float32(np.sqrt(share)) for x, share in zip(embeddings, shares, strict=True)])

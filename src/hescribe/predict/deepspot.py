"""DeepSpot: a deep set over the features of a spot, of the tiles of its patch, and of the spots around it.

Nonchev et al., DeepSpot: Leveraging Spatial Context for Enhanced Spatial Transcriptomics Prediction from H&E Images,
medRxiv 2025.02.09.25321567. The published code is MIT; this is our own, from the equations. We differ: features are
scaled as those of the train spots, where the original takes them as they are; neighbours are the spots of the first
ring, where the original takes array places at most 1 apart, which on Visium leaves out two of six; a spot with
fewer neighbours than others has a smaller set, where the original fills it up with zeros that enter the maximum
(``legacy_padding``); spots are not sampled by clusters of their expression; and epochs are chosen by the inner rule.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.features import embed_section, embed_tiles
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor, Size
from hescribe.prep.scale import Scale

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._deep_set import Pool, Sets
    from hescribe.predict._network import Design


class DeepSpotSize(NamedTuple):
    """Width of a ``phi``, number of ``phi`` and ``rho``, tiles along the side of a patch, and step size."""

    n_hidden: int
    n_ensemble: int
    n_side: int
    lr: float


SIZES = {"paper": DeepSpotSize(512, 10, 3, 1e-4), "small": DeepSpotSize(128, 3, 2, 1e-3)}


@dataclass(kw_only=True)
class DeepspotPredictor(NetworkPredictor):
    """A deep set over three levels of tissue.

    Parameters
    ----------
    size
        ``"paper"``, or ``"small"``: a quarter of the width, 3 members in place of 10, 4 tiles in place of 9.
    encoder, standardise
        What is read of the image: see ``SpotInputs``.
    fov_um
        Side of the patch; None takes the first one of the encoder's card.
    n_side
        Tiles along the side of a patch; 1 leaves them out, None takes that of the size.
    n_rings
        Rings of neighbours; 0 leaves them out.
    dropout
        Share of hidden units left out in training.
    legacy_padding
        Fill sets of neighbours with zeros up to the largest set in train. What the network says of a zero vector then
        enters the maximum of every spot at the edge, and a prediction depends on how many neighbours other
        spots have.
    epochs
        Passes over the training spots; None chooses among 2 to 20 by the inner rule.
    lr
        Step size; None takes that of the size, 1e-4 as published or 1e-3.
    weight_decay, batch_size, seed
        Of the training.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = DeepspotPredictor(encoder="color", size="small", epochs=1).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "deepspot"
    card: ClassVar[MethodCard] = MethodCard(
        summary="DeepSpot: deep set over a spot, the tiles of its patch and its neighbours",
        paper="Nonchev et al., medRxiv 2025.02.09.25321567",
        code_licence="MIT",
        differs="scaled features; neighbours are the first ring, and none are made up at the edge; "
        "epochs by the inner rule; no sampling by clusters of expression",
        n_params=10 * (1025 * 512) + 10 * (1537 * 1000),  # of UNI's 1024 features
        n_params_genes=1000,
    )
    size: Size = "paper"
    encoder: str = "efficientnet_lite0"
    fov_um: float | None = None
    standardise: Standardise = "train"
    n_side: int | None = None
    n_rings: int = 1
    dropout: float = 0.3
    legacy_padding: bool = False
    weight_decay: float = 1e-6
    batch_size: int = 64

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("fov_um", 1)
        self.check_between("n_side", 1, 8)
        self.check_between("n_rings", 0)
        self.check_between("dropout", 0, 0.99)

    def usual_lr(self) -> float:
        """Return the step size where none is given."""
        return SIZES[self.size].lr

    def features(self) -> Features:
        """Return what is read of the spot itself."""
        return Features(self._inputs(0))

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that the prediction of one spot sees, in um."""
        return self._inputs(self.n_rings).view_um(train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._deep_set import error_in_sd  # noqa: PLC0415 - imports torch
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=self._start, read=self._read, network=self._network, recipe=self.recipe(), loss=error_in_sd, chunk=64
        )

    def _side_um(self) -> float:
        return self.fov_um or create_encoder(self.encoder).card.fov_um[0]

    def _n_side(self) -> int:
        return self.n_side or SIZES[self.size].n_side

    def _inputs(self, n_rings: int) -> SpotInputs:
        return SpotInputs(
            encoder=self.encoder, fov_um=(self._side_um(),), n_rings=n_rings, standardise=self.standardise
        )

    def _start(self, train: Cohort) -> dict[str, Any]:
        """Return the scaling of features and genes, and the most neighbours that a spot has."""
        from hescribe.predict._deep_set import spots_around  # noqa: PLC0415 - imports torch

        y = train.stack(keys.TARGET)
        sizes = [len(a) for s in train for a in spots_around(s, self.n_rings)] if self.n_rings else []
        return {
            **self.features().start(train),
            "y_sd": np.where(np.ptp(y, axis=0) > 0, y.std(axis=0), 0.0).astype(np.float32),
            "n_places": np.array([max([1, *sizes])]),
        }

    def _read(self, section: Section, state: dict[str, Any]) -> "Sets":
        from hescribe.predict._deep_set import Sets, places_around, spots_around  # noqa: PLC0415 - imports torch

        around = None
        if self.n_rings:
            found = spots_around(section, self.n_rings)
            around = places_around(found, int(state["n_places"][0]), blank=self.legacy_padding)
        tiles = None
        if self._n_side() > 1:
            tiles = embed_tiles(section, self.encoder, n_side=self._n_side(), fov_um=self._side_um())
        scales: tuple[Scale, ...] = (Scale(state["x_mean"], state["x_sd"]),)
        if self.standardise == "section":
            scales = (Scale.of(embed_section(section, self.encoder, fov_um=(self._side_um(),))), *scales)
        x = self.features().read(section, state)
        return Sets(np.vstack([x, np.zeros_like(x[:1])]), tiles, scales, around)

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        import torch  # noqa: PLC0415 - heavy

        from hescribe.predict._deep_set import DeepSet  # noqa: PLC0415 - imports torch

        del n_genes
        pools: tuple[Pool, ...] = ("sum",)
        if self._n_side() > 1:
            pools += ("sum",)
        if self.n_rings:
            pools += ("max",)
        size = SIZES[self.size]
        return DeepSet(
            len(state["x_mean"]), pools, torch.tensor(state["y_sd"]), n_hidden=size.n_hidden,
            n_ensemble=size.n_ensemble, dropout=self.dropout,
        )  # fmt: skip

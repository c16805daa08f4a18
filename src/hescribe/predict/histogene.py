"""HisToGene: a section is one sequence of spots, each the pixels of its patch and its place.

Pang et al., Leveraging information in spatial transcriptomics to predict super-resolution gene expression from
histology images in tumors, bioRxiv 2021, doi:10.1101/2021.11.28.470212. The published code is under the MIT licence;
this is our own. We differ: a place is relative to the section, whose longer side spans the tables of 64 rows, where
the original reads rows of the capture array, knows no array of more than 64, and has noise in rows that train sections
do not reach; targets and genes are the protocol's; steps are AdamW's without decay.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.predict._deep import Features, NetworkPredictor, Size

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._network import Design
    from hescribe.predict._sequence import PlacedPatches

# px, width, layers, heads, feed-forward, step size, epochs
SIZES: dict[str, dict[str, Any]] = {
    "paper": {"px": 112, "n_dims": 1024, "n_layers": 4, "n_heads": 16, "n_feed": 2048, "lr": 1e-5, "epochs": (100,)},
    "small": {"px": 16, "n_dims": 128, "n_layers": 2, "n_heads": 4, "n_feed": 256, "lr": 1e-3, "epochs": (10, 20, 40)},
}


@dataclass(kw_only=True)
class HistogenePredictor(NetworkPredictor):
    """Attention among all spots of a section, from pixels and places; a step of the training is a section.

    Parameters
    ----------
    size
        ``"paper"``: patches of 112 px, 73 million weights. ``"small"``: the same patches at 16 px, 0.4 million, for a
        CPU. It reads pixels too and not the features of an encoder, since that is what the method does.
    fov_um
        Side of the patch.
    legacy_table
        Read places on the capture array, as published.
    dropout
        Share of units left out in training.
    jitter
        Largest relative change of the colours of a patch in training; it is also turned and mirrored.
    epochs
        Passes over the sections; None takes the published 100 at the paper's size, where a choice would cost hours,
        and chooses among 10 to 40 by the inner rule at the small one.
    lr
        Step size; None takes the published 1e-5 at the paper's size, and 1e-3 at the small one.
    weight_decay, seed
        Of the training.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = HistogenePredictor(size="small", epochs=1).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "histogene"
    card: ClassVar[MethodCard] = MethodCard(
        summary="HisToGene: attention among all spots of a section, from raw pixels and places",
        paper="Pang et al., bioRxiv 2021, doi:10.1101/2021.11.28.470212",
        code_licence="MIT",
        differs="places are relative to the section, so that any section fits the tables; target and genes are the "
        "protocol's",
        n_params=73_061_137,
        n_params_genes=785,
    )
    size: Size = "paper"
    fov_um: float = 112.0
    legacy_table: bool = False
    dropout: float = 0.1
    jitter: float = 0.2
    weight_decay: float = 0.0
    batch_size: int = 1

    def usual_epochs(self) -> tuple[int, ...]:
        """Return the epochs to choose among, shortest first; a single one is taken without trying it."""
        return tuple(SIZES[self.size]["epochs"])

    def usual_lr(self) -> float:
        """Return the step size where none is given."""
        return float(SIZES[self.size]["lr"])

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("fov_um", 1)
        self.check_between("dropout", 0, 0.99)
        self.check_between("jitter", 0, 0.99)

    def features(self) -> Features:
        """Return the colours of the patch: what says how unlike the train spots a spot looks."""
        return Features(SpotInputs(encoder="color", fov_um=(self.fov_um,), n_rings=0, standardise="train"))

    def view_um(self, train: Cohort) -> float:
        """Return the side of a patch; that all of the section is seen leaves no margin to keep."""
        del train
        return self.fov_um

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=lambda _: {"cut": np.array([self.fov_um, SIZES[self.size]["px"]])},
            read=self._read,
            network=self._network,
            recipe=self.recipe(),
            whole=True,
        )

    def _read(self, section: Section, state: dict[str, Any]) -> "PlacedPatches":
        from hescribe.predict._patches import PatchesOfSection  # noqa: PLC0415 - imports torch
        from hescribe.predict._sequence import PlacedPatches, array_rows, relative_rows  # noqa: PLC0415 - imports torch

        rows = array_rows(section) if self.legacy_table else relative_rows(section)
        return PlacedPatches(PatchesOfSection.of(section, float(state["cut"][0]), int(state["cut"][1])), rows)

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict._sequence import PixelTransformer, Shape  # noqa: PLC0415 - imports torch

        of_size = SIZES[self.size]
        shape = Shape(**{name: of_size[name] for name in ("n_dims", "n_layers", "n_heads", "n_feed")})
        return PixelTransformer(int(state["cut"][1]), n_genes, shape, dropout=self.dropout, jitter=self.jitter)

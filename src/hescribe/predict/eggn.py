"""EGGN: a graph of spots and of the train spots that look like them, with their expression.

Yang et al., Spatial transcriptomics analysis of gene expression prediction using exemplar guided graph neural network,
Pattern Recognition 2024, arXiv:2210.16728. The published code has no licence; this is our own. We differ: in training a
spot is shown exemplars of other donors only, as a new donor's will be, where the original takes them from all
other train sections, replicates included; exemplars hear those of the same spot; neighbours are told apart by pitches,
so that any array fits; expression is a difference from the train mean, where the original scales it to the range seen
in training; epochs are chosen on held-out train donors.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor, Size
from hescribe.prep.graph import pitch_um

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._eggn_network import SectionGraph
    from hescribe.predict._network import Design

SIZES: dict[str, dict[str, int]] = {
    "paper": {"width": 512, "n_layers": 4, "n_heads": 8},
    "small": {"width": 128, "n_layers": 2, "n_heads": 4},
}
RADIUS = 1.5  # pitches


@dataclass(kw_only=True)
class EggnPredictor(NetworkPredictor):
    """A network on the graph of a section and of its exemplars.

    Parameters
    ----------
    size
        ``"paper"``: 4 layers of width 512; ``"small"``: 2 of width 128.
    encoder, fov_um, standardise
        What is read of the image: see ``SpotInputs``. Exemplars are found by the same features.
    n_exemplars
        Train spots that each spot is shown.
    n_neighbours
        Most neighbours of a spot within 1.5 pitches.
    epochs
        Passes over the sections; None chooses among 5 to 20 by the inner rule.
    lr
        Step size; None takes the published 5e-4.
    weight_decay, seed
        Of the training.
    """

    name: ClassVar[str] = "eggn"
    EPOCHS: ClassVar[tuple[int, ...]] = (5, 10, 20)
    card: ClassVar[MethodCard] = MethodCard(
        summary="EGGN: a graph of spots and of the train spots that look like them",
        paper="Yang et al., Pattern Recognition 2024, arXiv:2210.16728",
        code_licence="none",
        differs="exemplars are of other donors in training too; differences from the train mean in place of a range",
    )
    size: Size = "paper"
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    standardise: Standardise = "train"
    n_exemplars: int = 6
    n_neighbours: int = 5
    weight_decay: float = 1e-4

    def usual_lr(self) -> float:
        """Return the published step size."""
        return 5e-4

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("n_exemplars", 1)
        self.check_between("n_neighbours", 1)

    def features(self) -> Features:
        """Return what is read of the image."""
        return Features(SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=0, standardise=self.standardise))

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that the prediction of one spot sees, in um."""
        n_layers = SIZES[self.size]["n_layers"]
        return self.features().inputs.view_um(train) + 2 * n_layers * RADIUS * max(pitch_um(s) for s in train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._exemplars import pearson_loss  # noqa: PLC0415 - imports torch
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=self._start,
            read=self._read,
            network=self._network,
            recipe=self.recipe(),
            loss=pearson_loss,
            whole=True,
        )

    def _start(self, train: Cohort) -> dict[str, Any]:
        from hescribe.predict._exemplars import Exemplars  # noqa: PLC0415 - imports torch

        state = self.features().start(train)
        return {**state, **Exemplars.of(train, self.features(), state).state()}

    def _read(self, section: Section, state: dict[str, Any]) -> "SectionGraph":
        from hescribe.predict._eggn_network import SectionGraph  # noqa: PLC0415 - imports torch
        from hescribe.predict._exemplars import Exemplars  # noqa: PLC0415 - imports torch

        return SectionGraph.of(
            section, self.features().read(section, state), Exemplars.restore(state), k=self.n_exemplars,
            n_neighbours=self.n_neighbours, radius=RADIUS,
        )  # fmt: skip

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict._eggn_network import EggnNetwork  # noqa: PLC0415 - imports torch

        return EggnNetwork(len(state["x_mean"]), n_genes, **SIZES[self.size])

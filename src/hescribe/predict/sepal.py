"""SEPAL: what a patch says, corrected by a graph of the spots around it.

Mejia et al., SEPAL: Spatial Gene Expression Prediction from Local Graphs, ICCV Workshops 2023, arXiv:2309.01036; the
published code is under the MIT licence. We differ: the correction ends without an exponential unit, which as published
keeps it above -1, and reads the centre of its graph, where the original reads whichever node scores highest
(``legacy_floor`` and ``legacy_pooling`` are the published ways); features are those of a frozen encoder, where the
original fine-tunes a ViT first; both stages learn at once, the correction from what the patch's answer leaves; offsets
are in pitches, so that any array fits; steps are of 1e-4 at both sizes, where the original takes 1e-5 for 300 epochs
on Visium, and epochs are chosen on held-out train donors.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor, Size
from hescribe.prep.graph import pitch_um

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._network import Design


@dataclass(kw_only=True)
class SepalPredictor(NetworkPredictor):
    """A linear layer on a spot's features, and a graph network on those of the spots around it.

    Parameters
    ----------
    size
        ``"paper"``: two graph layers with a layer before and after, the paper's best on Visium; ``"small"``: one graph
        layer, its best on legacy ST.
    encoder, fov_um, standardise
        What is read of the image: see ``SpotInputs``.
    n_hops
        Steps from spot to touching spot that the graph reaches.
    legacy_floor
        As published, no correction falls below -1.
    legacy_pooling
        As published, the node of highest score is read and not the centre.
    epochs
        Passes over the train spots; None chooses among 2 to 40 by the inner rule.
    lr, weight_decay, batch_size, seed
        Of the training.
    """

    name: ClassVar[str] = "sepal"
    EPOCHS: ClassVar[tuple[int, ...]] = (2, 5, 10, 20, 40)
    card: ClassVar[MethodCard] = MethodCard(
        summary="SEPAL: what a patch says, corrected by the graph of the spots around it",
        paper="Mejia et al., ICCVW 2023, arXiv:2309.01036",
        code_licence="MIT",
        differs="the correction may be as low as it has to and reads the centre; frozen features; both stages at once",
        n_params=984_192,  # of the correction on Visium, with 768 features and 256 genes
        n_params_genes=256,
    )
    size: Size = "paper"
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    standardise: Standardise = "train"
    n_hops: int = 1
    legacy_floor: bool = False
    legacy_pooling: bool = False
    lr: float = 1e-4

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("n_hops", 1, 5)

    def features(self) -> Features:
        """Return what is read of the image."""
        return Features(SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=0, standardise=self.standardise))

    def view_um(self, train: Cohort) -> float:
        """Return the width of the image that the prediction of one spot sees, in um."""
        return self.features().inputs.view_um(train) + 2 * self.n_hops * max(pitch_um(s) for s in train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch
        from hescribe.predict._sepal_network import LocalGraphs, two_stage_loss  # noqa: PLC0415 - imports torch

        features = self.features()
        return Design(
            start=features.start,
            read=lambda section, state: LocalGraphs.of(section, features.read(section, state), self.n_hops),
            network=self._network,
            recipe=self.recipe(),
            loss=two_stage_loss,
        )

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict._sepal_network import LAYOUTS, SepalNetwork  # noqa: PLC0415 - imports torch

        return SepalNetwork(
            len(state["x_mean"]), n_genes, LAYOUTS[self.size], floor=self.legacy_floor, top_node=self.legacy_pooling
        )

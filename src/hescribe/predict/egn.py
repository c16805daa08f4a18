"""EGN: a vision transformer on a patch that is shown the train spots that look like it, with their expression.

Yang et al., Exemplar guided deep neural network for spatial transcriptomics analysis of gene expression prediction,
WACV 2023, arXiv:2210.16721. The published code has no licence; this is our own. We differ: exemplars are found by the
features of a frozen encoder, as the published code does and the paper, with a StyleGAN, does not; in training they are
of other donors only; expression is a difference from the train mean, where the original scales it to the range seen in
training. SpaRED's adaptation reads the answers in rows of 256 genes whatever the panel holds, so that its scores mix
spots; nothing here reshapes an answer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor, Size

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._egn_network import ShownPatches
    from hescribe.predict._network import Design

SIZES: dict[str, dict[str, int]] = {
    "paper": {
        "px": 256, "token_px": 32, "n_dims": 1024, "n_layers": 8, "n_heads": 16, "n_feed": 4096, "n_between": 2,
    },
    "small": {"px": 32, "token_px": 8, "n_dims": 64, "n_layers": 2, "n_heads": 4, "n_feed": 128, "n_between": 1},
}  # fmt: skip


@dataclass(kw_only=True)
class EgnPredictor(NetworkPredictor):
    """A transformer on the pixels of a patch, with exemplars.

    Parameters
    ----------
    size
        ``"paper"``: patches of 256 px in tokens of 32, 8 layers of width 1024, for a GPU; ``"small"``: patches of 32
        px in tokens of 8, 2 layers of width 64.
    encoder, standardise
        By what exemplars are found: see ``SpotInputs``.
    fov_um
        Side of the patch.
    n_exemplars
        Train spots that each spot is shown.
    jitter
        Largest relative change of the colours of a patch in training; it is also turned and mirrored.
    epochs
        Passes over the train spots; None takes the published 50 at the paper's size, where a choice would cost hours,
        and chooses among 2 to 20 by the inner rule at the small one.
    lr
        Step size; None takes the published 5e-4.
    weight_decay, batch_size, seed
        Of the training.
    """

    name: ClassVar[str] = "egn"
    card: ClassVar[MethodCard] = MethodCard(
        summary="EGN: a transformer on a patch that is shown train spots that look like it",
        paper="Yang et al., WACV 2023, arXiv:2210.16721",
        code_licence="none",
        differs="exemplars by a frozen encoder, in training of other donors only; differences from the train mean",
    )
    size: Size = "paper"
    encoder: str = "efficientnet_lite0"
    fov_um: float = 112.0
    standardise: Standardise = "train"
    n_exemplars: int = 6
    jitter: float = 0.0
    weight_decay: float = 1e-4
    batch_size: int = 32

    def usual_epochs(self) -> tuple[int, ...]:
        """Return the epochs to choose among, shortest first; a single one is taken without trying it."""
        return (50,) if self.size == "paper" else self.EPOCHS

    def usual_lr(self) -> float:
        """Return the published step size."""
        return 5e-4

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("fov_um", 1)
        self.check_between("n_exemplars", 1)
        self.check_between("jitter", 0, 0.99)

    def features(self) -> Features:
        """Return the features by which exemplars are found."""
        return Features(
            SpotInputs(encoder=self.encoder, fov_um=(self.fov_um,), n_rings=0, standardise=self.standardise)
        )

    def view_um(self, train: Cohort) -> float:
        """Return the side of a patch."""
        del train
        return self.fov_um

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._exemplars import pearson_loss  # noqa: PLC0415 - imports torch
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=self._start, read=self._read, network=self._network, recipe=self.recipe(), loss=pearson_loss
        )

    def _start(self, train: Cohort) -> dict[str, Any]:
        from hescribe.predict._exemplars import Exemplars  # noqa: PLC0415 - imports torch

        state = self.features().start(train)
        cut = np.array([self.fov_um, SIZES[self.size]["px"]])
        return {**state, "cut": cut, **Exemplars.of(train, self.features(), state).state()}

    def _read(self, section: Section, state: dict[str, Any]) -> "ShownPatches":
        from torch import from_numpy  # noqa: PLC0415 - heavy

        from hescribe.predict._egn_network import ShownPatches  # noqa: PLC0415 - imports torch
        from hescribe.predict._exemplars import Exemplars  # noqa: PLC0415 - imports torch
        from hescribe.predict._patches import PatchesOfSection  # noqa: PLC0415 - imports torch

        exemplars = Exemplars.restore(state)
        found = exemplars.find(section, self.features().read(section, state), self.n_exemplars)
        patches = PatchesOfSection.of(section, float(state["cut"][0]), int(state["cut"][1]))
        return ShownPatches(patches, exemplars, from_numpy(found))

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict._egn_network import EgnNetwork, Shape  # noqa: PLC0415 - imports torch

        shape = Shape(**{k: v for k, v in SIZES[self.size].items() if k != "px"})
        return EgnNetwork(int(state["cut"][1]), len(state["x_mean"]), n_genes, shape, jitter=self.jitter)

"""A vision transformer on one patch that predicts differences from the train mean: the best of SpaRED's leaderboard.

Dosovitskiy et al., ICLR 2021, arXiv:2010.11929, with a linear last layer, as Mejia et al. adapt it (MICCAI 2024,
arXiv:2407.13027), who find that predicting differences is most of what sets a predictor apart. We differ: patches are
turned each for itself, where the original turns a whole batch alike; epochs are chosen on held-out train donors.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hescribe.cards import MethodCard
from hescribe.predict._image_predictor import ImagePredictor

if TYPE_CHECKING:
    from hescribe.predict._network import Design


@dataclass(kw_only=True)
class VitDeltaPredictor(ImagePredictor):
    """ViT-B/16 on one patch. Other parameters: see ``ImagePredictor``.

    Parameters
    ----------
    delta
        Predict differences from the train mean. False is the plain ViT-B of the benchmark, which has to learn the
        mean as well.
    """

    name: ClassVar[str] = "vit_delta"
    PAPER: ClassVar[str] = "torchvision_model:vit_b_16"
    card: ClassVar[MethodCard] = MethodCard(
        summary="ViT-B/16 on one patch, predicting differences from the train mean",
        paper="Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; Mejia et al., MICCAI 2024, arXiv:2407.13027",
        code_licence="unknown",
        differs="patches are turned each for itself; epochs by the inner rule",
        n_params=85_798_656 + 769 * 128,
        n_params_genes=128,
    )
    delta: bool = True

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        return replace(super().design(), differences=self.delta)

"""A ShuffleNet on one patch: the smallest predictor of SpaRED's benchmark.

Ma et al., ShuffleNet V2, ECCV 2018, arXiv:1807.11164, with a linear last layer, as Mejia et al. adapt it (MICCAI 2024,
arXiv:2407.13027). We differ: patches are turned each for itself, where the original turns a whole batch alike; epochs
are chosen on held-out train donors.
"""

from dataclasses import dataclass
from typing import ClassVar

from hescribe.cards import MethodCard
from hescribe.predict._image_predictor import ImagePredictor


@dataclass(kw_only=True)
class ShufflenetPredictor(ImagePredictor):
    """ShuffleNet V2 x0.5 on one patch. Parameters: see ``ImagePredictor``."""

    name: ClassVar[str] = "shufflenet"
    PAPER: ClassVar[str] = "torchvision_model:shufflenet_v2_x0_5"
    card: ClassVar[MethodCard] = MethodCard(
        summary="ShuffleNet V2 x0.5 on one patch",
        paper="Ma et al., ECCV 2018, arXiv:1807.11164; Mejia et al., MICCAI 2024, arXiv:2407.13027",
        code_licence="unknown",
        differs="patches are turned each for itself; epochs by the inner rule",
        n_params=341_792 + 1025 * 128,
        n_params_genes=128,
    )

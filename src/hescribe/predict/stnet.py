"""ST-Net: a DenseNet-121 that is fine-tuned on patches, and predicts by the mean over their symmetries.

He et al., Integrating spatial gene expression and breast tumour morphology via deep learning, Nature Biomedical
Engineering 2020. The published code has no licence; this is our own. Its last layer starts at zero weights and the
train mean, as ours does. We differ: the target is the protocol's, where the original smooths log counts; genes are the
protocol's, where the original takes the 250 of highest mean; steps are AdamW's, as in SpaRED's adaptation, where the
original takes momentum at 1e-6; epochs are chosen on held-out train donors, where the original takes 50.
"""

from dataclasses import dataclass
from typing import ClassVar

from hescribe.cards import MethodCard
from hescribe.predict._image_predictor import ImagePredictor


@dataclass(kw_only=True)
class StnetPredictor(ImagePredictor):
    """DenseNet-121 on one patch. Parameters: see ``ImagePredictor``."""

    name: ClassVar[str] = "stnet"
    PAPER: ClassVar[str] = "torchvision_model:densenet121"
    card: ClassVar[MethodCard] = MethodCard(
        summary="ST-Net: DenseNet-121 on one patch, averaged over its symmetries",
        paper="He et al., Nature Biomedical Engineering 2020",
        code_licence="none",
        differs="target and genes are the protocol's; AdamW in place of momentum; epochs by the inner rule",
        n_params=6_953_856 + 1025 * 250,
        n_params_genes=250,
    )
    symmetric: bool = True

"""TRIPLEX: a patch, the spots around it and the whole section are read apart, and fused.

Chung et al., Accurate Spatial Gene Expression Prediction by Integrating Multi-Resolution Features, CVPR 2024,
arXiv:2403.07592. The published code has no licence; this is our own, from the equations. We differ: nothing is dropped
in use, where the original's section branch is (``legacy_dropout``); epochs are chosen on held-out train donors, where
the original stops on the test fold; labels are not smoothed over neighbours; the spots within two places stand for a
5 x 5 grid of patches, so that features are computed once, and absent ones stay out of the mean and the fusion; biases
of the attention among them are a function of the offset, which serves any array; a batch is of one section; answers
are differences from the train mean; ImageNet weights stand for those of Ciga et al.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.base import create_encoder
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.predict._deep import Features, NetworkPredictor, Size
from hescribe.prep.graph import pitch_um

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._multiscale import Scales, ThreeScales
    from hescribe.predict._network import Design

TARGET = "torchvision_model:resnet18"
N_PLACES = 2  # that the spots around reach
CHUNK = {"paper": 64, "small": 1024}  # spots predicted at once
# Of fusion, section and surroundings: layers, heads, feed-forward block in widths of a token, dropout.
SIZES: dict[str, dict[str, Any]] = {
    "paper": {"n_dims": 512, "fusion": (1, 4, 4, 0.2), "whole": (3, 16, 4, 0.1), "around": (3, 16, 1, 0.3)},
    "small": {"n_dims": 64, "fusion": (1, 4, 2, 0.2), "whole": (2, 4, 2, 0.1), "around": (1, 4, 1, 0.3)},
}
LR = {"paper": 1e-4, "small": 1e-3}


@dataclass(kw_only=True)
class TriplexPredictor(NetworkPredictor):
    """Attention at three scales, each of which answers by itself too.

    Parameters
    ----------
    size
        ``"paper"``: tokens of 512, and a ResNet-18 that is trained on the patch of the spot, for a GPU. ``"small"``:
        tokens of 64, and the frozen features of the spot in place of that ResNet, for a CPU.
    encoder, fov_um, standardise
        What is read of the spots around and of the section: see ``SpotInputs``.
    jitter
        Largest relative change of the colours of a patch in training, at the paper's size.
    legacy_dropout
        As published, the section branch drops units in use too: two predictions differ.
    epochs
        Passes over the train spots; None chooses among 5 to 20 by the inner rule, at either size.
    lr
        Step size; None takes the published 1e-4 at the paper's size, and 1e-3 at the small one.
    weight_decay, seed
        Of the training.
    batch_size
        Spots of one section in a step.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = TriplexPredictor(size="small", encoder="color", epochs=1).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    EPOCHS: ClassVar[tuple[int, ...]] = (5, 10, 20)
    name: ClassVar[str] = "triplex"
    card: ClassVar[MethodCard] = MethodCard(
        summary="TRIPLEX: a patch, the spots around it and the section, read apart and fused",
        paper="Chung et al., CVPR 2024, arXiv:2403.07592",
        code_licence="none",
        differs="nothing is dropped in use; epochs by held-out train donors, not the test fold; spots within two "
        "places stand for 5 x 5 patches",
        n_params=29_031_640,
        n_params_genes=250,
    )
    size: Size = "paper"
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    standardise: Standardise = "train"
    jitter: float = 0.2
    legacy_dropout: bool = False
    weight_decay: float = 0.0
    batch_size: int = 128

    def usual_lr(self) -> float:
        """Return the step size where none is given."""
        return LR[self.size]

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("jitter", 0, 0.99)

    def features(self) -> Features:
        """Return what is read of the spots around and of the section."""
        return Features(SpotInputs(encoder=self.encoder, fov_um=self.fov_um, n_rings=0, standardise=self.standardise))

    def view_um(self, train: Cohort) -> float:
        """Return the width of the surroundings; that all of the section is seen leaves no margin to keep."""
        return self.features().inputs.view_um(train) + 2 * N_PLACES * max(pitch_um(s) for s in train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._multiscale import supervise_branches  # noqa: PLC0415 - imports torch
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=self.features().start,
            read=self._read,
            network=self._network,
            recipe=self.recipe(),
            loss=supervise_branches,
            by_section=True,
            chunk=CHUNK[self.size],
        )

    def _read(self, section: Section, state: dict[str, Any]) -> "ThreeScales":
        from hescribe.predict._multiscale import ThreeScales  # noqa: PLC0415 - imports torch
        from hescribe.predict._patches import PatchesOfSection  # noqa: PLC0415 - imports torch

        patches = None
        if self.size == "paper":
            card = create_encoder(TARGET).card
            patches = PatchesOfSection.of(section, card.fov_um[0], card.px)
        return ThreeScales.of(section, self.features().read(section, state), patches)

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict import _multiscale  # noqa: PLC0415 - imports torch

        n_inputs, scales = len(state["x_mean"]), self._scales()
        if self.size == "paper":
            target: nn.Module = _multiscale.MapTokens(create_encoder(TARGET).network(), jitter=self.jitter)  # type: ignore[union-attr]
        else:
            target = _multiscale.FeatureToken(n_inputs, scales.n_dims)
        return _multiscale.MultiscaleNetwork(target, n_inputs, n_genes, scales, noisy=self.legacy_dropout)

    def _scales(self) -> "Scales":
        from hescribe.predict._multiscale import Branch, Scales  # noqa: PLC0415 - imports torch

        of_size = SIZES[self.size]
        names = ("n_layers", "n_heads", "feed", "dropout")
        branches = {k: Branch(**dict(zip(names, v, strict=True))) for k, v in of_size.items() if k != "n_dims"}
        return Scales(n_dims=of_size["n_dims"], **branches)

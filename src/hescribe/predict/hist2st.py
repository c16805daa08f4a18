"""Hist2ST: a mixer on patches, attention among all spots of a section, a graph of neighbours, and counts.

Zeng et al., Spatial transcriptomics prediction from histology jointly through Transformer and graph neural networks,
Briefings in Bioinformatics 2022, bbac297. The published code has no licence; this is our own, from the equations. We
differ: a spot is in the mean over its neighbourhood, where the original leaves it out and divides by 0 where a spot is
isolated (``legacy_graph``); what a step of the graph finds is added to the spot, where in the original it stands for
it, and spots become alike step by step (``legacy_steps``); the heads of the counts start from the train mean of each
gene; places are relative to the section, as in ``histogene``; counts have the depth over all genes, relative to the
section's median; steps are AdamW's without decay, of one size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.predict._deep import Features, NetworkPredictor, Size
from hescribe.prep.graph import pitch_um

if TYPE_CHECKING:
    from torch import nn

    from hescribe.predict._hist2st_network import GraphOfSection
    from hescribe.predict._network import Design

# See ``Layout``.
SIZES: dict[str, dict[str, int]] = {
    "paper": {
        "px": 112, "cell": 7, "n_channels": 32, "n_mixers": 2, "n_layers": 8, "n_hops": 4, "n_heads": 16,
    },
    "small": {
        "px": 56, "cell": 7, "n_channels": 16, "n_mixers": 1, "n_layers": 2, "n_hops": 2, "n_heads": 4,
    },
}  # fmt: skip
EPOCHS: dict[str, tuple[int, ...]] = {"paper": (350,), "small": (5, 10, 20)}
LR = {"paper": 1e-5, "small": 1e-3}
LEAST_DEPTH = 1e-3  # of a spot, relative to the usual one: the logarithm of no depth is not finite


@dataclass(kw_only=True)
class Hist2stPredictor(NetworkPredictor):
    """Attention and a graph among the spots of a section, from pixels; a step of the training is a section.

    Parameters
    ----------
    size
        ``"paper"``: patches of 112 px, tokens of 1024, for a GPU. ``"small"``: the same patches at 56 px and tokens of
        128, for a CPU; it reads pixels too, since that is what the method does.
    fov_um
        Side of the patch.
    legacy_graph
        As published, a spot is not in the mean over its neighbourhood.
    legacy_steps
        As published, a spot is replaced at each step of the graph by what the step finds.
    counts, views
        Weights in the loss of the likelihood of the counts, and of what altered views of the section say together.
    n_views
        Altered views of a section in a step.
    dropout
        Share of units left out in training.
    jitter
        Largest relative change of the colours of an altered view; it is also turned and mirrored.
    epochs
        Passes over the sections; None takes the published 350 at the paper's size, where a choice would cost days, and
        chooses among 5 to 20 by the inner rule at the small one.
    lr
        Step size; None takes the published 1e-5 at the paper's size, and 1e-3 at the small one.
    weight_decay, seed
        Of the training.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> fitted = Hist2stPredictor(size="small", epochs=1, n_views=1).fit(cohort)
    >>> fitted.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "hist2st"
    card: ClassVar[MethodCard] = MethodCard(
        summary="Hist2ST: attention and a graph among the spots of a section, from pixels, with a loss on counts",
        paper="Zeng et al., Briefings in Bioinformatics 2022, bbac297",
        code_licence="none",
        differs="a spot is in the mean over its neighbourhood, and steps of the graph are added to it; places are "
        "relative to the section; counts start from their train means",
        n_params=75_789_833,
        n_params_genes=785,
    )
    size: Size = "paper"
    fov_um: float = 112.0
    legacy_graph: bool = False
    legacy_steps: bool = False
    counts: float = 0.25
    views: float = 0.5
    n_views: int = 5
    dropout: float = 0.2
    jitter: float = 0.2
    weight_decay: float = 0.0
    batch_size: int = 1

    def usual_epochs(self) -> tuple[int, ...]:
        """Return the epochs to choose among, shortest first; a single one is taken without trying it."""
        return EPOCHS[self.size]

    def usual_lr(self) -> float:
        """Return the step size where none is given."""
        return LR[self.size]

    def check_params(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        super().check_params()
        self.check_between("fov_um", 1)
        self.check_between("counts", 0)
        self.check_between("views", 0)
        self.check_between("n_views", 1)
        self.check_between("dropout", 0, 0.99)
        self.check_between("jitter", 0, 0.99)

    def features(self) -> Features:
        """Return the colours of the patch: what says how unlike the train spots a spot looks."""
        return Features(SpotInputs(encoder="color", fov_um=(self.fov_um,), n_rings=0, standardise="train"))

    def view_um(self, train: Cohort) -> float:
        """Return the width of what the graph reaches; that all of the section is seen leaves no margin to keep."""
        return self.fov_um + 2 * SIZES[self.size]["n_hops"] * max(pitch_um(s) for s in train)

    def design(self) -> "Design":
        """Return the network and the way it is trained."""
        from hescribe.predict._hist2st_network import JointLoss  # noqa: PLC0415 - imports torch
        from hescribe.predict._network import Design  # noqa: PLC0415 - imports torch

        return Design(
            start=self._start,
            read=self._read,
            network=self._network,
            recipe=self.recipe(),
            loss=JointLoss(counts=self.counts, views=self.views, n_views=self.n_views, jitter=self.jitter),
            answers=_counts if self.counts else _no_counts,
            whole=True,
        )

    def _start(self, train: Cohort) -> dict[str, Any]:
        cut = np.array([self.fov_um, SIZES[self.size]["px"]])
        return {"cut": cut, "log_count": _log_count(train) if self.counts else np.zeros(len(train.genes))}

    def _read(self, section: Section, state: dict[str, Any]) -> "GraphOfSection":
        from hescribe.predict._hist2st_network import GraphOfSection, neighbours  # noqa: PLC0415 - imports torch
        from hescribe.predict._patches import PatchesOfSection  # noqa: PLC0415 - imports torch
        from hescribe.predict._sequence import PlacedPatches, relative_rows  # noqa: PLC0415 - imports torch

        patches = PatchesOfSection.of(section, float(state["cut"][0]), int(state["cut"][1]))
        placed = PlacedPatches(patches, relative_rows(section))
        return GraphOfSection(placed, neighbours(section, alone=self.legacy_graph))

    def _network(self, state: dict[str, Any], n_genes: int) -> "nn.Module":
        from hescribe.predict._hist2st_network import Hist2stNetwork, Layout  # noqa: PLC0415 - imports torch

        del n_genes
        layout = Layout(**SIZES[self.size])
        return Hist2stNetwork(layout, state["log_count"], dropout=self.dropout, bare=self.legacy_steps)


def _counts(section: Section) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the panel and the depths relative to the median of the kept spots, 0 of the others."""
    kept = section.kept
    count, depth = np.zeros((section.n_spots, len(section.genes))), np.zeros((section.n_spots, 1))
    count[kept] = section.layer(keys.COUNTS)
    relative = section.depth[kept] / max(float(np.median(section.depth[kept])), 1.0)
    depth[kept, 0] = np.maximum(relative, LEAST_DEPTH)
    return count, depth


def _log_count(train: Cohort) -> np.ndarray:
    """Return the logarithm of the mean count of each gene at usual depth, one count added so that it is finite."""
    seen = [_counts(s) for s in train if s.kept.any()]
    n_counts, depth = sum(count.sum(axis=0) for count, _ in seen), sum(depth.sum() for _, depth in seen)
    return np.asarray(np.log((n_counts + 1) / depth))


def _no_counts(section: Section) -> tuple[np.ndarray, np.ndarray]:
    """Return zeros, of which nothing is learned: a cohort without counts is no obstacle then."""
    return np.zeros((section.n_spots, 1)), np.zeros((section.n_spots, 1))

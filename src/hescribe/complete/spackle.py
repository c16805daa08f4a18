"""SpaCKLE: a transformer over a spot and its neighbours says what was missed.

Mejia et al., "Enhancing Gene Expression Prediction from Histology Images with Spatial Transcriptomics
Completion", MICCAI 2024, arXiv:2407.13027. The published code gives torch's attention the axes in the wrong
order, so that a spot sees the other spots of its batch and none of its neighbours; it shows medians in
training and zeros in use; and it is scored in training on values it was shown. We differ: attention over the
neighbours of the same section, one stand-in for whatever is missing, in training and in use, and a loss on
measured values of the centre that were hidden. ``legacy_batch_attention`` is the published way.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeVar

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.complete.hiding import DepthSeen, Missing, learned_shares
from hescribe.complete.mean import fit_gene_means
from hescribe.complete.section_mean import section_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.params import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hescribe.complete._spackle_lessons import Lessons, Spots
    from hescribe.complete._spackle_network import BatchAttentionNetwork, NeighbourhoodNetwork
    from hescribe.train.loop import Recipe

Network = TypeVar("Network", bound="nn.Module")
STEPS, PUBLISHED_STEPS = 400, 1000
LIMITS = (
    ("n_neighbours", 0, np.inf), ("radius", 0, np.inf), ("n_layers", 1, np.inf), ("n_heads", 1, np.inf),
    ("n_dims", 1, np.inf), ("n_steps", 1, np.inf), ("batch_size", 1, np.inf), ("lr", 0, np.inf), ("seed", 0, np.inf),
    ("legacy_tokens", 1, 19),
)  # fmt: skip
OF_BOTH = ("n_steps", "lr", "seed", "missing", "depth_seen", "legacy_batch_attention")
LEGACY_ONLY = ("legacy_tokens",)


@dataclass(kw_only=True)
class SpackleCompleter(Params):
    """Transformer over a spot and its nearest neighbours.

    Parameters
    ----------
    n_neighbours, radius
        Neighbours of the same section that a spot sees, nearest first, none farther than ``radius`` pitches.
    n_layers, n_heads, n_dims
        Of the network.
    centre
        What a value is taken relative to: the mean of its gene's visible values in the section, or in training.
    encoder
        Image encoder whose features of each spot's patch are seen beside its counts; None: counts alone.
    hide
        Least and greatest share of the counts hidden in training, drawn anew for every neighbourhood; half of every
        count where anything may be missing.
    missing, depth_seen
        What is learned: see ``complete.hiding.draw_lesson``. The published way has a rule of its own: measured
        counts, and the full depth.
    n_steps
        Batches; None: 400, and 1,000 the published way.
    batch_size, lr, seed
        Of the training.
    precision
        Of the network's products in training. On a CPU without bfloat16 units, float32 is faster.
    legacy_batch_attention
        Complete as the published code does: attention over 256 spots of a batch, so that a prediction depends on
        which spots lie beside it in the table and not on its neighbours.
    legacy_tokens
        How many of the 19 tokens of a neighbourhood are computed in a batch, chosen at random. They do not see
        each other, so that fewer leave the expected loss and gradient as published, and only add noise to them.

    Examples
    --------
    >>> from hescribe.testing.cohorts import raw_colour_cohort
    >>> cohort = raw_colour_cohort()
    >>> SpackleCompleter(n_steps=2, n_dims=8).fit(cohort).estimate(cohort[0]).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "spackle"
    card: ClassVar[MethodCard] = MethodCard(
        summary="SpaCKLE, corrected: a transformer over a spot and its nearest neighbours",
        paper="Mejia et al., MICCAI 2024, arXiv:2407.13027",
    )
    n_neighbours: int = 18
    radius: float = 4.0
    n_layers: int = 2
    n_heads: int = 4
    n_dims: int = 128
    centre: Literal["section", "train"] = "section"
    encoder: str | None = None
    hide: tuple[float, float] = (0.2, 0.6)
    missing: Missing = "measured"
    depth_seen: DepthSeen = "visible"
    n_steps: int | None = None
    batch_size: int = 256
    lr: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0
    legacy_batch_attention: bool = False
    legacy_tokens: int = 19

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing is chosen
        """Train the network.

        Raises
        ------
        InputError
            If a parameter is out of its limits or has no effect, or an image is asked for and a section has none.
        """
        self._check_params()
        weights = self._fit_published(train) if self.legacy_batch_attention else self._fit_corrected(train)
        self.genes_ = train.genes
        self.weights_ = {k: v.numpy() for k, v in weights.items()}
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the expression of every entry.

        Raises
        ------
        InputError
            If the completer reads the image and the section has none.
        """
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        return Completion((self._estimate_published if self.legacy_batch_attention else self._estimate)(section))

    def _check_params(self) -> None:
        for name, low, high in LIMITS:
            self.check_between(name, low, high)
        if self.n_dims % self.n_heads:
            raise InputError(
                f"n_dims of SpackleCompleter must be a multiple of n_heads, got {self.n_dims} and {self.n_heads}"
            )
        if not 0 < self.hide[0] <= self.hide[1] <= 1:
            raise InputError(
                f"hide of SpackleCompleter must be two shares, 0 < least <= greatest <= 1, got {self.hide}"
            )
        unused = set(LEGACY_ONLY)
        if self.legacy_batch_attention:
            unused = {f.name for f in fields(self)} - {*OF_BOTH, *LEGACY_ONLY}
        for field in fields(self):
            if field.name in unused and getattr(self, field.name) != field.default:
                raise InputError(
                    f"{field.name} of SpackleCompleter has no effect with legacy_batch_attention="
                    f"{self.legacy_batch_attention}; leave it at its default, {field.default!r}"
                )

    def _recipe(self, batch_size: int, schedule: Literal["constant", "cosine"]) -> "Recipe":
        from hescribe.train.loop import Recipe  # noqa: PLC0415 - imports torch

        return Recipe(batch_size=batch_size, lr=self.lr, weight_decay=0.0, seed=self.seed, schedule=schedule)

    def _fit_corrected(self, train: Cohort) -> "dict[str, Tensor]":
        from hescribe.complete._spackle_lessons import masked_error  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import train_steps  # noqa: PLC0415 - imports torch

        lessons = self._lessons(train)
        network = self._network(len(train.genes), lessons.spots.image.shape[1])
        loss = masked_error(network, lessons.spread, bfloat16=self.precision == "bfloat16")
        n_rows, n_steps, recipe = len(lessons.section), self.n_steps or STEPS, self._recipe(self.batch_size, "cosine")
        return train_steps(network, loss, lessons.draw, recipe, n_rows=n_rows, n_steps=n_steps)

    def _lessons(self, train: Cohort) -> "Lessons":
        """Learn the means and spreads of the genes, and return what the network learns from."""
        from torch import from_numpy  # noqa: PLC0415 - heavy

        from hescribe.complete._spackle_lessons import N_LEVELS, Lessons  # noqa: PLC0415 - imports torch

        views, rng = [View.of(s) for s in train], np.random.default_rng(self.seed)
        self.mean_ = fit_gene_means(train)
        self.spread_, self.known_ = _spreads(views, [self._level(v) for v in views])
        if self.centre == "section":
            levels = np.stack([self._levels(s, rng) for s in train])
        else:
            levels = np.tile(self.mean_, (len(views), N_LEVELS, 1))
        return Lessons(
            spots=self._spots(views),
            section=from_numpy(np.repeat(np.arange(len(views)), [len(v.counts) for v in views])),
            levels=from_numpy(levels.astype(np.float32)),
            spread=from_numpy(self.spread_),
            hide=learned_shares(self.missing, self.hide),
            missing=self.missing,
            depth_seen=self.depth_seen,
        )

    def _levels(self, section: Section, rng: np.random.Generator) -> np.ndarray:
        from hescribe.complete._spackle_lessons import section_levels  # noqa: PLC0415 - imports torch

        return section_levels(
            section,
            self.mean_,
            rng,
            hide=learned_shares(self.missing, self.hide),
            missing=self.missing,
            depth_seen=self.depth_seen,
        )

    def _spots(self, views: list[View]) -> "Spots":
        from hescribe.complete._spackle_lessons import Spots  # noqa: PLC0415 - imports torch

        return Spots.of(views, n_neighbours=self.n_neighbours, radius=self.radius, encoder=self.encoder)

    def _level(self, view: View) -> np.ndarray:
        """Return what values of a section are taken relative to, shape ``(n_genes,)``."""
        return section_means(view, self.mean_) if self.centre == "section" else self.mean_

    def _network(self, n_genes: int, n_image: int) -> "NeighbourhoodNetwork":
        from hescribe.complete._spackle_network import NeighbourhoodNetwork  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        with seeded(self.seed):
            return NeighbourhoodNetwork(
                n_genes, n_image, n_dims=self.n_dims, n_heads=self.n_heads, n_layers=self.n_layers
            )

    def _estimate(self, section: Section) -> np.ndarray:
        from hescribe.complete._spackle_lessons import complete_spots  # noqa: PLC0415 - imports torch

        level = self._level(View.of(section)).astype(np.float32)
        spots = self._spots([View.of(section)])  # another view: the first holds values, as large as the counts
        network = self._with_weights(self._network(len(self.genes_), spots.image.shape[1]))
        return complete_spots(network, spots, level=level, spread=self.spread_, known=self.known_)

    def _with_weights(self, network: "Network") -> "Network":
        from torch import from_numpy  # noqa: PLC0415 - heavy

        network.load_state_dict({k: from_numpy(v) for k, v in self.weights_.items()}, strict=True)
        return network.eval()

    def _published_network(self, n_genes: int) -> "BatchAttentionNetwork":
        from hescribe.complete._spackle_network import BatchAttentionNetwork  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import seeded  # noqa: PLC0415 - imports torch

        with seeded(self.seed):
            return BatchAttentionNetwork(n_genes)

    def _fit_published(self, train: Cohort) -> "dict[str, Tensor]":
        from torch import nn  # noqa: PLC0415 - heavy

        from hescribe.complete._spackle_published import BATCH, PublishedLessons  # noqa: PLC0415 - imports torch
        from hescribe.train.loop import train_steps  # noqa: PLC0415 - imports torch

        lessons, mse = PublishedLessons.of(train, n_tokens=self.legacy_tokens), nn.MSELoss()
        network = self._published_network(len(train.genes))
        return train_steps(
            network,
            lambda shown, values: mse(network(shown), values),
            lessons.draw,
            self._recipe(BATCH, "constant"),
            n_rows=len(lessons.values),
            n_steps=self.n_steps or PUBLISHED_STEPS,
        )

    def _estimate_published(self, section: Section) -> np.ndarray:
        from hescribe.complete._spackle_published import complete_in_batches  # noqa: PLC0415 - imports torch

        network = self._with_weights(self._published_network(len(self.genes_)))
        return complete_in_batches(network, View.of(section).values)


def _spreads(views: list[View], levels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sd of each gene's values about the levels, shape ``(n_genes,)``, and whether it was ever measured."""
    n_genes = views[0].counts.shape[1]
    square, count = np.zeros(n_genes), np.zeros(n_genes)
    for view, level in zip(views, levels, strict=True):
        square += (np.where(view.observed, view.values - level, 0) ** 2).sum(axis=0)
        count += view.observed.sum(axis=0)
    spread = np.sqrt(square / np.maximum(count, 1))
    return np.where(spread > 0, spread, 1).astype(np.float32), count > 0

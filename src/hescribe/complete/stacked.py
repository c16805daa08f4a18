"""Stacked: a network over genes guesses every value, a second one weighs that guess against what is around.

Ours. What neither step gets from a published completer: the guess that the second network learns from is made by a
first network that has not seen the donor (stacked generalisation, Wolpert, Neural Networks 1992,
doi:10.1016/S0893-6080(05)80023-1), so that it learns how far to trust it in new tissue; the second network is
one for all entries, so that a rare gene learns from the others; and both are told how deep a spot is, since a
measured count is at least 1 and that bounds its value from below.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import PER_MILLION, Completion, View, check_panel
from hescribe.complete.centred import Centred
from hescribe.complete.hiding import DepthSeen, Missing, draw_lesson
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.params import Params

if TYPE_CHECKING:
    from hescribe.complete._entry_network import EntryFeatures, EntryNetwork
    from hescribe.complete._gene_network import GeneNetwork, GeneNetworkRecipe

Network = TypeVar("Network", bound="GeneNetwork | EntryNetwork")
N_GROUPS = 4  # of donors, that the first network is trained without in turn
MAX_ENTRIES = 800_000  # that the second network learns from
N_LESSONS = 2  # of each section, for the second network
BLOCK = 2**20  # entries whose features are held at once: 110 MB
MIN_SPOTS = 8  # in training
MAX_GENES = 3000  # 20,000 train spots take 2 GB of inputs then


@dataclass(kw_only=True)
class StackedCompleter(Params):
    """Two networks: all genes of a spot and its surroundings, then each entry.

    Parameters
    ----------
    n_hidden, dropout
        Of the first network.
    n_steps
        Batches of 256 spots that the first network learns from; in each pass over the spots other counts are
        hidden. Not so many passes: a small cohort would be learned in a few steps, and hardly.
    missing, depth_seen
        What is learned: see ``complete.hiding.draw_lesson``.
    seed
        Of what is hidden and of both networks.
    """

    name: ClassVar[str] = "stacked"
    card: ClassVar[MethodCard] = MethodCard(
        summary="a network over genes, weighed by a network over entries against section, spot and neighbours"
    )
    n_hidden: int = 256
    dropout: float = 0.2
    n_steps: int = 1000
    missing: Missing = "measured"
    depth_seen: DepthSeen = "visible"
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing is chosen
        """Train both networks.

        Raises
        ------
        InputError
            If a parameter is out of range, there are more than 3,000 genes, fewer than 8 spots, or no measured count
            to learn from.
        """
        for name, low, high in (("n_hidden", 1, np.inf), ("dropout", 0, 0.95), ("n_steps", 1, np.inf)):
            self.check_between(name, low, high)
        if sum(s.n_spots for s in train) < MIN_SPOTS:
            raise InputError(f"stacked learns from at least {MIN_SPOTS} spots; use section_mean or knn for so few")
        if len(train.genes) > MAX_GENES:
            raise InputError(
                f"stacked is for at most {MAX_GENES} genes, and there are {len(train.genes)}; choose fewer, or use "
                "another completer such as soft_impute"
            )
        from hescribe.complete._entry_network import EntryNetwork  # noqa: PLC0415 - imports torch
        from hescribe.complete._gene_network import Pupil, train_gene_network  # noqa: PLC0415 - as above

        self.genes_, self.mean_, self.sd_ = train.genes, fit_gene_means(train), _fit_spread(train)
        pupils, groups = [Pupil.of(s) for s in train], _deal(train)
        entries = []
        for group in np.unique(np.concatenate(groups)):
            others = [replace(p, spots=g != group) for p, g in zip(pupils, groups, strict=True) if (g != group).any()]
            network = train_gene_network(others, self.mean_, self._recipe())
            held = [(p.section, g == group) for p, g in zip(pupils, groups, strict=True) if (g == group).any()]
            entries += [entry for section, spots in held for entry in self._learn_from(section, spots, network)]
        x, y = (np.concatenate(part) for part in zip(*entries, strict=True))
        if not len(y):
            raise InputError("no measured count of the train cohort could be hidden to learn from")
        chosen = np.random.default_rng(self.seed).permutation(len(y))[:MAX_ENTRIES]
        self.gene_network_ = _to_arrays(train_gene_network(pupils, self.mean_, self._recipe()))
        self.entry_network_ = _to_arrays(EntryNetwork.train(x[chosen], y[chosen], self.seed))
        return self

    def estimate(self, section: Section) -> Completion:
        """Return value and standard deviation of every entry."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        from hescribe.complete._entry_network import EntryNetwork  # noqa: PLC0415 - imports torch
        from hescribe.complete._gene_network import GeneNetwork  # noqa: PLC0415 - as above

        view = View.of(section)
        network = _restore(EntryNetwork, self.entry_network_)
        mean, sd = np.empty_like(view.values), np.empty_like(view.values)
        centred, features = self._features(view, _restore(GeneNetwork, self.gene_network_))
        for genes in _blocks(len(self.genes_), max(BLOCK // max(section.n_spots, 1), 1)):
            x = features.of(genes)
            residual, spread = network.infer(x.reshape(-1, x.shape[-1]))
            mean[:, genes] = residual.reshape(x.shape[:2]) + centred.mean[genes]
            sd[:, genes] = spread.reshape(x.shape[:2])
        least = np.log2(1 + PER_MILLION / np.maximum(view.depth, 1))[:, None] if self.missing == "measured" else 0.0
        return Completion(np.maximum(mean, least), sd)

    def _recipe(self) -> "GeneNetworkRecipe":
        from hescribe.complete._gene_network import GeneNetworkRecipe  # noqa: PLC0415 - imports torch

        return GeneNetworkRecipe(
            n_hidden=self.n_hidden, dropout=self.dropout, n_steps=self.n_steps, missing=self.missing,
            depth_seen=self.depth_seen, seed=self.seed,
        )  # fmt: skip

    def _learn_from(
        self, section: Section, spots: np.ndarray, network: "GeneNetwork"
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features and residuals of what lessons hide in the spots that the first network has not seen."""
        from hescribe.complete._gene_network import SHARES  # noqa: PLC0415 - imports torch

        rng = np.random.default_rng([self.seed, len(section.id), *section.id.encode()])
        for _ in range(N_LESSONS):
            lesson = draw_lesson(section, rng.uniform(*SHARES), rng, missing=self.missing, depth_seen=self.depth_seen)
            centred, features = self._features(View.of(lesson.section), network)
            where = lesson.where & spots[:, None]
            for genes in _blocks(len(self.genes_), max(BLOCK // section.n_spots, 1)):
                asked = where[:, genes]
                yield features.of(genes)[asked], (lesson.answer - centred.mean)[:, genes][asked].astype(np.float32)

    def _features(self, view: View, network: "GeneNetwork") -> "tuple[Centred, EntryFeatures]":
        from hescribe.complete._entry_network import EntryFeatures, find_wide_near  # noqa: PLC0415 - imports torch
        from hescribe.complete._gene_network import find_near  # noqa: PLC0415 - as above

        centred = Centred.of(view, self.mean_)
        first = network.infer(centred, find_near(view))
        return centred, EntryFeatures(centred, find_wide_near(view), first, self.mean_, self.sd_)


def _to_arrays(network: "GeneNetwork | EntryNetwork") -> dict[str, np.ndarray]:
    """Return all that a network is as arrays by name, flat, as a model folder keeps them."""
    return {"mean": network.mean, "sd": network.sd, **network.weights}


def _restore(kind: type[Network], arrays: dict[str, np.ndarray]) -> Network:
    weights = dict(arrays)
    mean, sd = weights.pop("mean"), weights.pop("sd")
    return kind(mean, sd, weights)


def _fit_spread(train: Cohort) -> np.ndarray:
    """Return the spread of each gene's measured values about their section's mean, shape ``(n_genes,)``."""
    parts = [Centred.of(View.of(s), np.zeros(len(train.genes))) for s in train]
    count = np.maximum(np.sum([p.view.observed.sum(axis=0) for p in parts], axis=0), 1)
    return np.sqrt(np.sum([(p.residual**2).sum(axis=0) for p in parts], axis=0) / count)


def _deal(train: Cohort) -> list[np.ndarray]:
    """Return the group of every spot, one array a section: by donor, else by section, else by stripe."""
    if len(train.donors) > 1:
        return [np.full(s.n_spots, train.donors.index(s.donor) % N_GROUPS) for s in train]
    if len(train) > 1:
        return [np.full(s.n_spots, i % N_GROUPS) for i, s in enumerate(train)]
    xy = train[0].xy_um
    along = xy[:, int(np.argmax(np.ptp(xy, axis=0)))]
    rank = np.argsort(np.argsort(along, kind="stable"), kind="stable")
    return [rank * N_GROUPS // len(rank)]


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))

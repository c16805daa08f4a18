"""Stacked: a network over genes guesses every value, a second one weighs that guess, the section has the last word.

Ours. What no published completer has: the guess that the second network learns from is made by a first network that
has not seen the donor (stacked generalisation, Wolpert, Neural Networks 1992, doi:10.1016/S0893-6080(05)80023-1), so
that it learns how far to trust it in new tissue; the second network is one for all entries, so that a rare gene
learns from the others; both are told how deep a spot is, since a measured count is at least 1 and that bounds its
value from below; and in each new section visible counts are hidden once more, to settle how far both are trusted
there and how wide their errors are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np

from hescribe.cards import MethodCard
from hescribe.complete.base import PER_MILLION, Completion, View, check_panel
from hescribe.complete.centred import Centred
from hescribe.complete.hiding import DepthSeen, Missing, draw_lesson, learned_shares
from hescribe.complete.mean import fit_gene_means
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.params import Params

if TYPE_CHECKING:
    from hescribe.complete._entry_network import EntryFeatures, EntryNetwork
    from hescribe.complete._gene_network import GeneNetwork, GeneNetworkRecipe, Near, Pupil
    from hescribe.complete._settling import Settled

Network = TypeVar("Network", bound="GeneNetwork | EntryNetwork")
N_GROUPS = 4  # of donors, that the first network is trained without in turn
MAX_ENTRIES = 800_000  # that the second network learns from
SETTLING = (0.1, 0.4)  # of the visible counts that are hidden once more, least and most
N_LESSONS = 2  # of each section, for the second network and for the third step
MAX_SETTLING = 400_000  # entries of a section that may be asked for in each lesson of its own
BLOCK = 2**20  # entries whose features are held at once: 110 MB
MIN_SPOTS = 8  # in training
MAX_GENES = 3000  # 20,000 train spots take 2 GB of inputs then


@dataclass(kw_only=True)
class StackedCompleter(Params):
    """Two networks, of all genes of a spot and its surroundings and then of each entry, settled in every section.

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
        summary="a network over genes and one over entries, weighed in each section by its own visible counts"
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
        self.check_between("n_hidden", 1)
        self.check_between("dropout", 0, 0.95)
        self.check_between("n_steps", 1)
        self.check_between("seed", 0)
        if sum(s.n_spots for s in train) < MIN_SPOTS:
            raise InputError(f"stacked learns from at least {MIN_SPOTS} spots; use section_mean or knn for so few")
        if len(train.genes) > MAX_GENES:
            raise InputError(
                f"stacked is for at most {MAX_GENES} genes, and there are {len(train.genes)}; choose fewer, or use "
                "another completer such as soft_impute"
            )
        from hescribe.complete._entry_network import EntryNetwork  # noqa: PLC0415 - imports torch
        from hescribe.complete._gene_network import SHARES, Pupil, train_gene_network  # noqa: PLC0415 - as above

        self.genes_, self.mean_, self.sd_ = train.genes, fit_gene_means(train), _fit_spread(train)
        pupils, groups = [Pupil(s, np.ones(s.n_spots, dtype=bool), _near(View.of(s))) for s in train], _deal(train)
        entries = []
        for group in np.unique(np.concatenate(groups)):
            others = [replace(p, spots=g != group) for p, g in zip(pupils, groups, strict=True) if (g != group).any()]
            network = train_gene_network(others, self.mean_, self._recipe())
            held = [replace(p, spots=g == group) for p, g in zip(pupils, groups, strict=True) if (g == group).any()]
            entries += [entry for pupil in held for entry in self._learn_from(pupil, network, SHARES)]
        x, y = _join(entries)
        if not len(y):
            raise InputError(
                "no measured count of the train cohort could be hidden; use section_mean or knn for so few"
            )
        chosen = np.random.default_rng(self.seed).permutation(len(y))[:MAX_ENTRIES]
        self.gene_network_ = _to_arrays(train_gene_network(pupils, self.mean_, self._recipe()))
        self.entry_network_ = _to_arrays(EntryNetwork.train(x[:, chosen], y[chosen], self.seed))
        return self

    def estimate(self, section: Section) -> Completion:
        """Return value and standard deviation of every entry."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        from hescribe.complete._entry_network import EntryNetwork  # noqa: PLC0415 - imports torch
        from hescribe.complete._gene_network import GeneNetwork, Pupil  # noqa: PLC0415 - as above

        order = np.lexsort(section.xy_um.T)  # nothing may depend on the order that spots come in
        section = section.with_table(section.table[order].copy())
        first, second = _restore(GeneNetwork, self.gene_network_), _restore(EntryNetwork, self.entry_network_)
        chance = MAX_SETTLING / max(section.n_spots * len(self.genes_), 1)
        spots = np.random.default_rng(self.seed).random(section.n_spots) < chance
        view = View.of(section)
        pupil = Pupil(section, spots, _near(view))
        settled = self._settle(pupil, first, second)
        features = self._features(view, pupil.near, first)
        centre = features.centred.mean
        mean, sd = np.empty_like(view.values), np.empty_like(view.values)
        for rows in self._blocks(np.arange(section.n_spots)):
            x = features.of(rows)
            residual, spread = settled.infer(x.reshape(len(x), -1), second)
            mean[rows], sd[rows] = residual.reshape(x.shape[1:]) + centre, spread.reshape(x.shape[1:])
        back = np.argsort(order)
        return Completion(self._bound(mean, view, centre)[back], sd[back])

    def _bound(self, mean: np.ndarray, view: View, centre: np.ndarray) -> np.ndarray:
        """Return values not below that of one count, or of none; the section's means in a spot without counts."""
        if self.missing == "any":
            return np.maximum(mean, 0.0)
        one_count = np.log2(1 + PER_MILLION / np.maximum(view.depth, 1))[:, None]
        bounded = np.maximum(mean, one_count)
        bounded[view.depth <= 0] = centre  # one count would be all that the spot holds: the highest value there is
        return bounded

    def _settle(self, pupil: "Pupil", first: "GeneNetwork", second: "EntryNetwork") -> "Settled":
        """Return the weights of the guesses in a section, from its visible counts."""
        from hescribe.complete._settling import Settled  # noqa: PLC0415 - imports torch

        return Settled.on(*_join(list(self._learn_from(pupil, first, SETTLING))), second)

    def _recipe(self) -> "GeneNetworkRecipe":
        from hescribe.complete._gene_network import GeneNetworkRecipe  # noqa: PLC0415 - imports torch

        return GeneNetworkRecipe(
            n_hidden=self.n_hidden, dropout=self.dropout, n_steps=self.n_steps, missing=self.missing,
            depth_seen=self.depth_seen, seed=self.seed,
        )  # fmt: skip

    def _learn_from(
        self, pupil: "Pupil", network: "GeneNetwork", shares: tuple[float, float]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features and residuals of what lessons hide in a pupil's spots, which the network has not seen."""
        section = pupil.section
        rng = np.random.default_rng([self.seed, len(section.id), *section.id.encode()])
        for _ in range(N_LESSONS):
            share = rng.uniform(*learned_shares(self.missing, shares))
            lesson = draw_lesson(section, share, rng, missing=self.missing, depth_seen=self.depth_seen)
            features = self._features(View.of(lesson.section), pupil.near, network)
            for rows in self._blocks(np.flatnonzero(pupil.spots)):
                asked, residual = lesson.where[rows], lesson.answer[rows] - features.centred.mean
                yield features.of(rows)[:, asked], residual[asked].astype(np.float32)

    def _features(self, view: View, near: "Near", network: "GeneNetwork") -> "EntryFeatures":
        from hescribe.complete._entry_network import EntryFeatures  # noqa: PLC0415 - imports torch

        return EntryFeatures(Centred.of(view, self.mean_), near, network, self.mean_, self.sd_)

    def _blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield so many spots at a time that the features of their entries fit into memory."""
        size = max(BLOCK // len(self.genes_), 1)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _near(view: View) -> "Near":
    """Return the neighbours that both networks look at."""
    from hescribe.complete import _entry_network, _gene_network  # noqa: PLC0415 - import torch

    return view.neighbourhoods(*{*_entry_network.NEAR, *_gene_network.NEAR})


def _join(entries: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return features and residuals of all blocks, shapes ``(n_features, n_entries)`` and ``(n_entries,)``."""
    features, residuals = zip(*entries, strict=True)
    return np.concatenate(features, axis=1), np.concatenate(residuals)


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

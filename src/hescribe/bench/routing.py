"""Whether experts earn their place: every way to use them beside one generalist, with equal steps.

The code published for SPADE (Redekop et al., 2025, arXiv:2506.21857) compares its mixture with no generalist. Here the
generalist learns as many steps as the mixture in all; ``wide`` has at least as many weights too. ``oracle`` sees the
answers and is no method: it says what the best router could gain, and a part of that is chance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hescribe import keys
from hescribe.align.base import Embeds, to_pairs
from hescribe.align.spade import Mixed, SpadeAligner
from hescribe.bench.task import Fold
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.experts.mixture import share_out
from hescribe.metrics.gene import correlate
from hescribe.metrics.pairs import to_unit
from hescribe.metrics.retrieval import score_retrieval
from hescribe.predict.ridge import RidgePath
from hescribe.prep.scale import Scale

WAYS = ("generalist", "wide", "uniform", "hard", "soft", "random", "procrustes", "chosen", "legacy", "oracle")
SOFT = 0.1  # temperature of the soft ways
ALPHA = 1e3  # penalty of the ridge on embeddings, the same for all ways


@dataclass(frozen=True)
class WayScore:
    """How one way does on one held-out section.

    Parameters
    ----------
    way
        One of ``WAYS``.
    section, donor
        Held out.
    auc, auc_without_depth
        Retrieval within the section, mean of both directions.
    pearson
        Of expression predicted by a ridge on the image embeddings, mean over genes; NaN for the oracle.
    n_experts
        Of the mixture that was compared.
    setting
        Strength and temperature of ``chosen``, empty for others.
    """

    way: str
    section: str
    donor: str
    auc: float
    auc_without_depth: float
    pearson: float
    n_experts: int
    setting: str = ""


@dataclass(frozen=True)
class Way(Embeds):
    """Both embeddings of one way."""

    image: Callable[[Section], np.ndarray]
    expression: Callable[[Section], np.ndarray]

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its image."""
        return self.image(section)

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its counts."""
        return self.expression(section)


def compare_ways(spade: SpadeAligner, fold: Fold) -> list[WayScore]:
    """Fit a generalist and experts on the train donors of a fold, and score every way to use them on the others.

    Parameters
    ----------
    spade
        Unfitted, with ``epochs`` given: all ways learn for ``epochs + tune_epochs`` passes over the train spots in all.
        Its strength and temperature are chosen for ``chosen`` alone.
    fold
        Whose test donors nothing has seen.

    Returns
    -------
    A score of each way on each test section with at least 2 kept spots.
    """
    train = fold.train
    general = spade.unfitted().fit(train)
    router = spade.fit_router(train)
    n_experts, parts = router.clusters.n_experts, spade.deal(router, train)
    mixed = spade.learn_experts(train, general, router, parts)
    ways = dict(_ways_of(spade, train, general, mixed))
    chosen = spade.with_params(n_experts=n_experts).fit(train)
    ways["chosen"] = Way(chosen.embed_image, chosen.embed_expression)
    ways["legacy"] = _published(spade, n_experts, train)
    settings = {"chosen": f"{chosen.strength_:g}, {chosen.temperature_:g}"}
    scores = []
    for name in WAYS:
        way = ways.get(name)
        ridge = None if way is None else _fit_ridge(way, train)
        for section in (s for s in fold.test if s.kept.sum() > 1):
            here = _oracle(mixed, spade, section) if way is None else way
            auc, without = _auc(here, section)
            r = float("nan") if ridge is None else _pearson(here, ridge, section)
            scores.append(WayScore(name, section.id, section.donor, auc, without, r, n_experts, settings.get(name, "")))
    return scores


def _ways_of(spade: SpadeAligner, train: Cohort, general: Any, mixed: Mixed) -> Iterator[tuple[str, Way]]:
    """Yield the ways that start from one generalist."""
    n_experts, epochs = mixed.router.clusters.n_experts, spade.tune_epochs
    yield "generalist", Way(mixed.general.embed_image, mixed.general.embed_expression)
    # Heads of d dims have about 2 d^2 weights: of this width one has as many as the generalist's and the experts'.
    n_dims = int(np.ceil(general.n_dims * np.sqrt(n_experts + 1))) + 16
    wide = general.with_params(n_dims=n_dims, epochs=spade.unfitted().epochs + epochs).fit(train)
    yield "wide", Way(wide.embed_image, wide.embed_expression)

    def by(of: Mixed, temperature: float) -> Way:
        return Way(lambda s: of.mix(of.look(spade, s), 1.0, temperature), of.general.embed_expression)

    def mean(section: Section) -> np.ndarray:
        return to_unit(np.mean(mixed.look(spade, section).experts, axis=0)).astype(np.float32)

    yield "uniform", Way(mean, mixed.general.embed_expression)
    yield "hard", by(mixed, 0.0)
    yield "soft", by(mixed, SOFT)
    nearest = mixed.router.nearest(spade.inputs().read_kept(train))[0]
    shuffled = np.random.default_rng(spade.seed).permutation(nearest)  # clusters of the same sizes
    at_random = share_out(shuffled, n_experts, spade.outside, spade.seed)
    yield "random", by(spade.learn_experts(train, general, mixed.router, at_random), SOFT)
    turned = spade.with_params(basis="procrustes")
    yield "procrustes", by(turned.learn_experts(train, general, mixed.router, spade.deal(mixed.router, train)), SOFT)


def _published(spade: SpadeAligner, n_experts: int, train: Cohort) -> Way:
    """Return the published mixture, which learns as many steps."""
    fields = {"outside", "strength", "temperature", "tune_epochs", "basis"}
    plain = {name: getattr(SpadeAligner(), name) for name in fields}
    epochs = spade.unfitted().epochs + spade.tune_epochs
    legacy = spade.with_params(**plain, legacy=True, n_experts=n_experts, epochs=epochs).fit(train)
    return Way(legacy.embed_image, legacy.embed_expression)


def _oracle(mixed: Mixed, spade: SpadeAligner, section: Section) -> Way:
    """Return each spot by the expert whose image ranks the spot's own expression highest in the section."""
    found, y = np.stack(mixed.look(spade, section).experts), mixed.general.embed_expression(section)
    similarity = found @ y.T  # (n_experts, n_spots, n_spots)
    own = np.diagonal(similarity, axis1=1, axis2=2)
    best = (similarity > own[:, :, None]).sum(axis=2).argmin(axis=0)
    image = found[best, np.arange(len(best))]
    return Way(lambda _: image, lambda _: y)


def _auc(way: Way, section: Section) -> tuple[float, float]:
    pairs = to_pairs(way, Cohort((section,)))
    found = []
    for without_depth in (False, True):
        rows = score_retrieval(pairs, pools=("within_section",), sizes=(None,), without_depth=without_depth)
        found.append(float(np.mean([r.value for r in rows if r.metric == "auc"])))
    return found[0], found[1]


def _fit_ridge(way: Way, train: Cohort) -> Callable[[np.ndarray], np.ndarray]:
    """Return what predicts expression from the embeddings of a way, fitted on its train spots."""
    x = np.concatenate([way.embed_image(s.blind())[s.kept] for s in train])
    scale = Scale.of(x)
    path = RidgePath.fit(scale.apply(x), train.stack(keys.TARGET))
    return lambda z: scale.apply(z) @ path.coef(ALPHA) + path.y_mean


def _pearson(way: Way, ridge: Callable[[np.ndarray], np.ndarray], section: Section) -> float:
    y_pred = ridge(way.embed_image(section.blind()))[section.kept]
    return float(np.nanmean(correlate(section.layer(keys.TARGET).astype(np.float64), y_pred.astype(np.float64))))

"""SPADE: experts for clusters of tissue, mixed by how near a tile lies to their clusters.

Redekop et al., "SPADE: Spatial Transcriptomics and Pathology Alignment Using a Mixture of Data Experts for an
Expressive Latent Space", 2025, arXiv:2506.21857. We differ: experts learn on from one generalist and share its space,
since the embeddings of experts that were drawn apart lie in unrelated bases, and their average means nothing; experts
see some pairs of other clusters; how far to go from the generalist, and how sharply to route, is chosen on held-out
train donors. ``legacy`` is the published way.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from scipy import stats

from hescribe.align.base import Aligner, ChecksWeights, Embeds, Refines, to_pairs
from hescribe.align.bleep import BleepAligner
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.errors import InputError
from hescribe.experts.mixture import Mixture, narrow, warn_of_single_sections
from hescribe.experts.routing import PUBLISHED_TEMPERATURE, Router
from hescribe.metrics.pairs import to_unit
from hescribe.metrics.retrieval import score_retrieval
from hescribe.metrics.stats import donor_mean
from hescribe.prep.split import inner_folds

PUBLISHED_EPOCHS = 100
SURE = 0.95  # of a gain by experts


@dataclass(kw_only=True)
class SpadeAligner(Mixture):
    """A generalist, an expert for each cluster of tissue, and a router between them.

    An image is embedded by the generalist and moved towards what the experts of its tissue say; expression is embedded
    by the generalist alone, since which tissue a spot is cannot be told without its image.

    Parameters
    ----------
    aligner
        What generalist and experts are. Its ``encoder`` and ``seed`` are those of the mixture.
    epochs
        Of the generalist, in place of the aligner's own; None leaves that.
    tune_epochs
        Passes of an expert over its pairs, from the generalist on, which learns on for as many; with ``legacy``, or
        where the aligner cannot learn on, experts are trained like the generalist.
    basis
        What keeps experts in one space. ``"gene_head"``: they share the generalist's head on expression.
        ``"procrustes"``: each trains one of its own and is turned onto the generalist by it.
    legacy
        As published: no generalist, experts from random starts of their own on their cluster alone, BLEEP's loss
        without length 1, fine clusters of features as they are and counted once, weights softmax(-distance / 0.1).
        Its expression side, which was not published, is the mean of the experts by their tiles.
    **others
        See ``Mixture``.

    Examples
    --------
    >>> from hescribe.encode.gene.pca import PCAEncoder
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort, bleep = colour_cohort(), BleepAligner(gene_encoder=PCAEncoder(n_dims=4), n_dims=16)
    >>> spade = SpadeAligner(aligner=bleep, encoder="color", n_fine=4, n_experts=2, epochs=1, tune_epochs=1).fit(cohort)
    >>> spade.embed_image(cohort[0].blind()).shape
    (49, 16)
    """

    name: ClassVar[str] = "spade"
    card: ClassVar[MethodCard] = MethodCard(
        summary="experts for clusters of tissue around a generalist, any aligner for an expert",
        paper="Redekop et al., arXiv:2506.21857",
        differs="Experts learn on from one generalist, in its space.",
    )
    aligner: Aligner = field(default_factory=BleepAligner)
    epochs: int | None = None
    tune_epochs: int = 5
    basis: Literal["gene_head", "procrustes"] = "gene_head"
    legacy: bool = False

    @property
    def gene_encoder(self) -> Any:
        """Encoder of expression of the aligner, which must not have seen the donors that are scored."""
        return getattr(self.aligner, "gene_encoder", None)

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Train the generalist, cluster the train tiles, and train an expert for each cluster.

        Raises
        ------
        InputError
            If a parameter is out of its limits or has no effect, a cluster has too few pairs, or an organ too few
            spots; else see the aligner.
        """
        self.check_mixture()
        self.check_between("tune_epochs", 1)
        warn_of_single_sections(train)
        if self.legacy:
            return self._fit_published(train)
        general: Any = self.unfitted().fit(train, val=val)
        router = self.fit_router(train)
        settings = self.settings()
        best = settings[0]
        if len(settings) > 1:
            best = settings[self._choose(train, val, getattr(general, "epochs_", None), router.clusters.n_experts)]
        mixed = self.learn_experts(train, general, router, self.deal(router, train))
        self.strength_, self.temperature_ = best
        self.genes_ = train.genes
        if mixed.bases is not None:
            self.bases_ = {str(i): basis for i, basis in enumerate(mixed.bases)}
        self.keep_parts(router, mixed.general, mixed.experts)
        return self

    def embed_image(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its image, shape ``(n_spots, n_dims)`` float32, length 1."""
        mixed = self.restore()
        return mixed.mix(mixed.look(self, section), self.strength_, self.temperature_)

    def embed_expression(self, section: Section) -> np.ndarray:
        """Return the embedding of every spot by its raw counts, shape ``(n_spots, n_dims)`` float32, length 1."""
        self.check_fitted()
        if not self.legacy:
            return self.restore_part(self.unfitted()).embed_expression(section)
        clusters = self.router().clusters
        share = np.bincount(clusters.expert, clusters.size) / clusters.size.sum()
        found = [e.embed_expression(section) for e in self.restore_experts(self.unfitted())]
        return to_unit(np.tensordot(share, np.stack(found), 1)).astype(np.float32)

    def check_weights(self) -> None:
        """Raise ``FormatError`` if the weights are not those of the heads: see ``align.base.ChecksWeights``."""
        mixed = self.restore()
        for part in (*mixed.experts, *([] if mixed.general is None else [mixed.general])):
            if isinstance(part, ChecksWeights):
                part.check_weights()

    def restore(self) -> "Mixed":
        """Return router, generalist and experts of a fitted mixture."""
        router, unfitted = self.router(), self.unfitted()
        general = None if self.legacy else self.restore_part(unfitted)
        kept = self.get_fitted().get("bases_")
        bases = kept and [kept[str(i)] for i in range(router.clusters.n_experts)]
        return Mixed(router, general, self.restore_experts(unfitted), bases)

    def _fit_published(self, train: Cohort) -> Self:
        for name in ("outside", "strength", "temperature", "tune_epochs", "basis"):
            self.check_unchanged((name,), given="legacy=True")
        router = self._published().fit_router(train, raw=True)
        parts = self._published().deal(router, train)
        experts = [self.unfitted(i).fit(narrow(train, part)) for i, part in enumerate(parts)]
        self.strength_, self.temperature_ = 1.0, PUBLISHED_TEMPERATURE
        self.genes_ = train.genes
        self.keep_parts(router, None, experts)
        return self

    def _published(self) -> Self:
        return self.with_params(weighted=False, outside=0.0)

    def unfitted(self, number: int = 0, *, epochs: int | None = None) -> Any:
        """Return the aligner of the generalist, or of an expert that starts anew."""
        aligner: Any = self.aligner
        own = aligner.get_params()
        epochs = epochs or self.epochs or (PUBLISHED_EPOCHS if self.legacy else None)
        given: dict[str, object] = {"encoder": self.encoder, "seed": self.seed + number}
        if epochs is not None:
            given["epochs"] = epochs
        if self.legacy:
            given["legacy"] = True
        if missing := [name for name in ("epochs", "legacy") if name in given and name not in own]:
            raise InputError(f"aligner {aligner.name} has no parameter {missing[0]!r}; leave it out, or take bleep")
        return aligner.with_params(**{k: v for k, v in given.items() if k in own})

    def learn_experts(self, train: Cohort, general: Any, router: Router, parts: list[np.ndarray]) -> "Mixed":
        """Return the experts of a generalist, each learned from a part of the kept spots: see ``Mixture.deal``.

        The generalist learns on too, on all spots: what experts gain must not be what more steps give.
        """
        if isinstance(general, Refines):
            both = self.basis == "procrustes"
            every = np.ones_like(parts[0])
            general, *experts = general.refine(train, [every, *parts], epochs=self.tune_epochs, both=both)
        else:
            if self.basis != "procrustes":
                raise InputError(f"aligner {general.name} cannot learn on from a generalist; give basis=procrustes")
            experts = [self.unfitted().fit(narrow(train, part)) for part in parts]
        if self.basis == "gene_head":
            return Mixed(router, general, experts, None)
        target = _expression(general, train)
        return Mixed(router, general, experts, [procrustes(_expression(e, train), target) for e in experts])

    def _choose(self, train: Cohort, val: Cohort | None, epochs: int | None, n_experts: int) -> int:
        """Return the setting under which held-out donors surely find their pairs best within a section."""
        settings = self.settings()
        scores: list[list[tuple[str, float]]] = [[] for _ in settings]
        for inner, outer in [(train, val)] if val is not None else inner_folds(train, view_um=self._view_um(train)):
            asking = [s for s in outer if s.kept.sum() > 1]
            if sum(int(s.kept.sum()) for s in inner) < self.n_fine or not asking:
                continue
            general, router = self.unfitted(epochs=epochs).fit(inner), self.fit_router(inner, n_experts=n_experts)
            mixed = self.learn_experts(inner, general, router, self.deal(router, inner))
            for section in asking:
                looks, expression = mixed.look(self, section.blind()), mixed.general.embed_expression(section)
                for of_setting, (strength, temperature) in zip(scores, settings, strict=True):
                    pair = _Pair(mixed.mix(looks, strength, temperature), expression)
                    pairs = to_pairs(pair, Cohort((section,), train.card))
                    rows = score_retrieval(pairs, pools=("within_section",), sizes=(None,))
                    of_setting += [(r.donor, r.value) for r in rows if r.metric == "auc"]
        if not scores[0]:
            raise InputError("the train cohort is too small to choose strength on; give strength= and temperature=")
        by_donor = np.array([list(donor_mean(s, n_resamples=1).by_donor.values()) for s in scores])
        return _choose_if_sure(by_donor)

    def _view_um(self, train: Cohort) -> float:
        return self.inputs().view_um(train)


class Looks(NamedTuple):
    """What generalist and experts make of the image of a section, and what the router reads of it."""

    x: np.ndarray
    general: np.ndarray | None
    experts: list[np.ndarray]


@dataclass(frozen=True)
class Mixed:
    """A router and those it chooses from.

    Parameters
    ----------
    router
        Of tiles.
    general
        The generalist; None the published way.
    experts
        One a cluster.
    bases
        What turns each onto the generalist, shape ``(n_dims, n_dims)``; None if they share its space as they are.
    """

    router: Router
    general: Any
    experts: list[Any]
    bases: list[np.ndarray] | None

    def look(self, mixture: Mixture, section: Section) -> Looks:
        """Return the embeddings that are mixed of a section, each of length 1."""
        from hescribe.align._refine import embed_images  # noqa: PLC0415 - imports torch

        every = self.experts if self.general is None else [*self.experts, self.general]
        found = embed_images(every, section)
        general = None if self.general is None else found.pop()
        if self.bases is not None:
            found = [z @ basis for z, basis in zip(found, self.bases, strict=True)]
        return Looks(mixture.inputs().read(section), general, found)

    def mix(self, looks: Looks, strength: float, temperature: float) -> np.ndarray:
        """Return embeddings that go from the generalist to the experts by ``strength``, of length 1."""
        weights = strength * self.router.weights(looks.x, temperature)
        out = np.zeros_like(looks.experts[0]) if looks.general is None else (1 - strength) * looks.general
        for e, found in enumerate(looks.experts):
            out = out + weights[:, [e]] * found
        return to_unit(out).astype(np.float32)


@dataclass(frozen=True)
class _Pair(Embeds):
    """Embeddings of one section that are there already."""

    image: np.ndarray
    expression: np.ndarray

    def embed_image(self, section: Section) -> np.ndarray:  # noqa: ARG002 - of one section
        return self.image

    def embed_expression(self, section: Section) -> np.ndarray:  # noqa: ARG002 - as above
        return self.expression


def _choose_if_sure(by_donor: np.ndarray) -> int:
    """Return the setting with the best mean over donors; the first unless the gain over it is beyond chance.

    Experts must earn their place: with few donors the best of nine settings is above the generalist by chance. The gain
    has to be above 0 by a one-sided t-test over donors at 5 %; a single donor can show none.

    Parameters
    ----------
    by_donor
        Score of each setting on each donor, the simplest first, shape ``(n_settings, n_donors)``.

    Examples
    --------
    >>> _choose_if_sure(np.array([[0.60, 0.60, 0.60], [0.7, 0.51, 0.60]]))
    0
    >>> _choose_if_sure(np.array([[0.60, 0.60, 0.60], [0.63, 0.62, 0.63]]))
    1
    """
    best, n_donors = int(by_donor.mean(axis=1).argmax()), by_donor.shape[1]
    if n_donors < 2:
        return 0
    gain = by_donor[best] - by_donor[0]
    limit = stats.t.ppf(SURE, n_donors - 1) * gain.std(ddof=1) / np.sqrt(n_donors)
    return best if gain.mean() > limit else 0


def procrustes(found: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotation, or reflection, that brings vectors nearest to their targets.

    Parameters
    ----------
    found, target
        Row by row, shape ``(n, n_dims)``.

    Examples
    --------
    >>> turned = procrustes(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    >>> turned.round(6).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    u, _, v = np.linalg.svd(found.T @ target)
    return np.asarray(u @ v, dtype=np.float32)


def _expression(aligner: Any, train: Cohort) -> np.ndarray:
    return np.concatenate([aligner.embed_expression(s)[s.kept] for s in train])

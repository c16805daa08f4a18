"""What mixtures of experts do alike, whatever an expert is: clusters of tiles, and who learns from which spot.

SPADE (Redekop et al., 2025, arXiv:2506.21857) after MoDE (Ma et al., CVPR 2024, arXiv:2404.16030), of which it left out
that experts start from one generalist and see some pairs of other clusters. Both are here.
"""

import warnings
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs, Standardise
from hescribe.errors import FormatError, InputError
from hescribe.experts.clustering import fit_fine, join_clusters
from hescribe.experts.routing import HARD, Router
from hescribe.experts.stability import rank_numbers, stability
from hescribe.params import Params
from hescribe.prep.scale import Scale

GENERAL = "general_"  # start of the names of what the generalist learned
STRENGTHS, TEMPERATURES = (0.0, 0.5, 1.0), (HARD, 0.03, 0.1, 0.3)  # the simplest first
ENOUGH = 50  # spots of the smallest cluster, where their number is chosen
MIN_PAIRS = 2  # of an expert: one alone cannot be told from another


@dataclass(kw_only=True)
class Mixture(Params):
    """Parameters of a mixture, and its clusters.

    Parameters
    ----------
    encoder
        What the router and the experts read of the image.
    standardise
        Of what the router reads: see ``SpotInputs``.
    n_fine
        Clusters of tiles within an organ.
    n_experts
        Clusters of those, each with an expert; None takes as many as stay alike when donors are left out, see
        ``experts.stability``, and hold at least 50 spots.
    weighted
        Count a fine cluster as often as it has tiles when they are clustered; published is once.
    outside
        Pairs of other clusters that an expert learns from too, as a share of its own.
    strength
        How far to go from the generalist to the experts, 0 to 1; None chooses on held-out train donors, 0 included.
    temperature
        Of the router, in units of the median distance of a train tile from the nearest centre: 0 sends a tile to one
        expert; None chooses it with ``strength``.
    seed
        Of clusters, outside pairs and experts.
    """

    encoder: str = "efficientnet_lite0"
    standardise: Standardise = "train"
    n_fine: int = 16
    n_experts: int | None = None
    weighted: bool = True
    outside: float = 0.05
    strength: float | None = None
    temperature: float | None = None
    seed: int = 0

    def check_mixture(self) -> None:
        """Raise ``InputError`` if a parameter is out of its limits."""
        for name, low, high in (("n_fine", 1, np.inf), ("n_experts", 1, np.inf), ("outside", 0, np.inf)):
            self.check_between(name, low, high)
        self.check_between("strength", 0, 1)
        self.check_between("temperature", 0)

    def inputs(self) -> SpotInputs:
        """Return what the router reads of a section."""
        return SpotInputs(encoder=self.encoder, fov_um=None, n_rings=0, standardise=self.standardise)

    def fit_router(self, train: Cohort, *, n_experts: int | None = None, raw: bool = False) -> Router:
        """Return the clusters of the kept spots of a train cohort.

        Parameters
        ----------
        train
            Sections with an image; those of one organ are clustered together.
        n_experts
            In place of the mixture's own.
        raw
            Leave features as they are, and distances in their unit.

        Raises
        ------
        InputError
            If an organ has fewer spots than clusters, or there are fewer centres than experts.
        """
        used = [s for s in train if s.kept.any()]
        found = [self.inputs().read(s)[s.kept] for s in used]
        scale = None if raw else Scale.of(np.concatenate(found))
        found = found if scale is None else [scale.apply(x) for x in found]
        organs = [s.card.organ for s in used]
        fixed = n_experts or self.n_experts
        of_organ = {o: np.concatenate([x for x, p in zip(found, organs, strict=True) if p == o]) for o in set(organs)}
        numbers = (fixed,) if fixed else self._rank_numbers(used, found)
        fine = fit_fine(dict(sorted(of_organ.items())), n_fine=self.n_fine, seed=self.seed)
        for number in numbers:
            clusters = join_clusters(fine, number, weighted=self.weighted, seed=self.seed)
            if clusters.tiles_of_experts().min() >= ENOUGH:
                break
        return Router(clusters, scale, 1.0 if raw else max(clusters.near, 1e-6))

    def _rank_numbers(self, sections: list[Section], features: list[np.ndarray]) -> tuple[int, ...]:
        """Return how many experts to try, best first."""
        organs, donors = [s.card.organ for s in sections], [s.donor for s in sections]
        return rank_numbers(
            stability(organs, donors, features, n_fine=self.n_fine, weighted=self.weighted, seed=self.seed)
        )

    def deal(self, router: Router, train: Cohort) -> list[np.ndarray]:
        """Return the spots that each expert learns from: its own, and a share of the others.

        Returns
        -------
        A mask of the kept spots of all sections for each expert, shape ``(n_kept,)``.

        Raises
        ------
        InputError
            If the cluster of an expert has fewer than 2 train pairs.
        """
        return share_out(
            router.nearest(self.inputs().read_kept(train))[0], router.clusters.n_experts, self.outside, self.seed
        )

    def settings(self) -> list[tuple[float, float]]:
        """Return the strengths and temperatures to choose from, the simplest first: the generalist, if it may be."""
        strengths = STRENGTHS if self.strength is None else (self.strength,)
        temperatures = TEMPERATURES if self.temperature is None else (self.temperature,)
        generalist = [(0.0, temperatures[0])] if 0.0 in strengths else []
        return generalist + list(product([s for s in strengths if s > 0], temperatures))

    def keep_parts(self, router: Router, general: Any, experts: list[Any]) -> None:
        """Keep the router and what generalist and experts learned; of an expert, what it does not share."""
        base = {} if general is None else general.get_fitted()
        state = {GENERAL + name: value for name, value in base.items()}
        for i, expert in enumerate(experts):
            shared = {name for name, v in expert.get_fitted().items() if v is base.get(name) and _is_large(v)}
            own = {name: v for name, v in expert.get_fitted().items() if name not in shared}
            state |= {f"expert{i}_{name}": value for name, value in own.items()}
        self.set_fitted({"router_": router.state(), "organs_": router.clusters.organs, **state})

    def router(self) -> Router:
        """Return the router of a fitted mixture."""
        self.check_fitted()
        state = self.get_fitted()
        return Router.restore(state["router_"], state["organs_"])

    def restore_part(self, unfitted: Any, start: str = GENERAL) -> Any:
        """Return the generalist, or the expert whose names start like this, from what was kept."""
        state = self.get_fitted()

        def named(begin: str) -> dict[str, Any]:
            return {k.removeprefix(begin): v for k, v in state.items() if k.startswith(begin)}

        return unfitted.with_params().set_fitted(named(GENERAL) | named(start))

    def restore_experts(self, unfitted: Any) -> list[Any]:
        """Return the experts of a fitted mixture.

        Raises
        ------
        FormatError
            If there is not one for each cluster, or one lacks what another has: it would be the generalist.
        """
        n_experts, names = self.router().clusters.n_experts, [k.partition("_") for k in self.get_fitted()]
        own = {i: {rest for start, _, rest in names if start == f"expert{i}"} for i in range(n_experts)}
        numbers = {start for start, _, _ in names if start.startswith("expert")}
        if len(numbers) != n_experts or any(not o or o != own[0] for o in own.values()):
            raise FormatError(f"{len(numbers)} experts are not whole, or not one for each of {n_experts} clusters")
        return [self.restore_part(unfitted, f"expert{i}_") for i in range(n_experts)]

    def is_far(self, section: Section) -> np.ndarray:
        """Return which spots look unlike every cluster of the training, shape ``(n_spots,)``: see ``Router.is_far``."""
        return self.router().is_far(self.inputs().read(section))

    def route(self, section: Section) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest expert of every spot, and the weight of each expert, shape ``(n_spots, n_experts)``."""
        router, x = self.router(), self.inputs().read(section)
        return router.nearest(x)[0], router.weights(x, self.get_fitted()["temperature_"])


def _is_large(value: object) -> bool:
    """Return whether a value is worth keeping once: equal numbers may or may not be one object."""
    return isinstance(value, np.ndarray | dict)


def share_out(expert: np.ndarray, n_experts: int, outside: float, seed: int) -> list[np.ndarray]:
    """Return which spots each expert learns from.

    Parameters
    ----------
    expert
        That each spot belongs to, shape ``(n_spots,)``.
    n_experts
        Number of experts.
    outside
        Spots of the others to add, as a share of its own.
    seed
        Of their choice.

    Raises
    ------
    InputError
        If an expert has fewer than 2 spots.

    Examples
    --------
    >>> [int(part.sum()) for part in share_out(np.array([0, 0, 0, 0, 1, 1]), 2, 0.5, seed=0)]
    [6, 3]
    """
    rng, parts = np.random.default_rng(seed), []
    for e in range(n_experts):
        part, others = expert == e, np.flatnonzero(expert != e)
        if (n_own := int(part.sum())) < MIN_PAIRS:
            raise InputError(
                f"cluster {e} of {n_experts} has {n_own or 'no'} train pair{'s' * (n_own > 1)}, too few to learn from; "
                "lower n_experts, or add sections"
            )
        part[rng.choice(others, min(round(outside * n_own), len(others)), replace=False)] = True
        parts.append(part)
    return parts


def narrow(train: Cohort, part: np.ndarray) -> Cohort:
    """Return a cohort whose kept spots are some of those before, given as a mask over all sections."""
    masks = iter(np.split(part, np.cumsum([int(s.kept.sum()) for s in train])[:-1]))

    def keep(section: Section) -> Section:
        kept = section.kept.copy()
        kept[kept] = next(masks)
        return section.with_kept(kept)

    return train.map(keep)


def warn_of_single_sections(train: Cohort) -> None:
    """Warn of organs with one section: whether their clusters hold for another one cannot be known."""
    organs = [s.card.organ for s in train if s.kept.any()]
    if len(organs) > 1 and (alone := sorted({o for o in organs if organs.count(o) == 1})):
        warnings.warn(
            f"organ {', '.join(alone)} has one train section, on which its clusters rest alone; add another, or leave "
            "the organ out",
            stacklevel=3,
        )

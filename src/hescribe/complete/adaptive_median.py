"""Adaptive median: SpaRED's filter, with zeros counted as values.

Mejia et al., SpaRED, MICCAI 2024, arXiv:2407.13027; see ``prep.denoise``.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from hescribe.cards import MethodCard
from hescribe.complete.base import Completion, View, check_panel
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.prep.denoise import N_HOPS, adaptive_median
from hescribe.prep.graph import spot_graph


@dataclass(kw_only=True)
class AdaptiveMedianCompleter(Params):
    """First median that is not 0 over ever wider windows of touching spots, zeros counted.

    Parameters
    ----------
    n_hops
        Steps of the widest window.
    """

    name: ClassVar[str] = "adaptive_median"
    card: ClassVar[MethodCard] = MethodCard(
        summary="SpaRED's filter: first non-zero median of ever wider windows, zeros counted as values",
        paper="Mejia et al., MICCAI 2024, arXiv:2407.13027",
    )
    n_hops: int = N_HOPS

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to learn
        """Remember the panel."""
        self.check_between("n_hops", 1)
        self.genes_ = train.genes
        return self

    def estimate(self, section: Section) -> Completion:
        """Return the filtered values; a gene that the section never shows stays 0."""
        self.check_fitted()
        check_panel(section, self.genes_, self.name)
        view = View.of(section)
        return Completion(adaptive_median(view.values, spot_graph(section), n_hops=self.n_hops))

"""A mixture of experts, each a predictor for one kind of tissue, around a predictor for all.

The experts are those of SPADE (Redekop et al., 2025, arXiv:2506.21857), which mixes embeddings. Predictions of one
panel share their unit, so that any predictor can be an expert and none needs to be brought into a common space.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.experts.mixture import Mixture, narrow, warn_of_single_sections
from hescribe.experts.routing import Router
from hescribe.params import Params
from hescribe.predict.base import Prediction, predictors
from hescribe.train.inner import PredictEach, choose


@dataclass(kw_only=True)
class MixturePredictor(Mixture):
    """Another predictor fitted on all spots, moved towards those that were fitted on one kind of tissue.

    Parameters
    ----------
    method
        Name of the predictor. Its ``encoder`` and ``seed`` are those of the mixture.
    **others
        See ``Mixture``.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> model = MixturePredictor(encoder="color", n_fine=4, n_experts=2).fit(cohort)
    >>> model.predict(cohort[0].blind()).mean.shape
    (49, 12)
    """

    name: ClassVar[str] = "mixture"
    card: ClassVar[MethodCard] = MethodCard(
        summary="another predictor, and one more of it for each kind of tissue",
        paper="Redekop et al., arXiv:2506.21857",
        differs="Predictions are mixed, not embeddings, around those of one generalist.",
    )
    method: str = "ridge"

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Fit the generalist, cluster the train spots, and fit an expert for each cluster.

        Raises
        ------
        InputError
            If a parameter is out of its limits, or a cluster or an organ has too few spots; else see the predictor.
        """
        self.check_mixture()
        warn_of_single_sections(train)
        general = self._unfitted().fit(train, val=val)
        router, settings = self.fit_router(train), self.settings()
        n_experts = router.clusters.n_experts

        def fit_path(inner: Cohort) -> PredictEach:
            there = self.fit_router(inner, n_experts=n_experts)
            first, experts = self._unfitted().fit(inner), self._experts(inner, there)
            return lambda section: self._mixed(section.blind(), there, first, experts, settings)

        best = settings[0]
        if len(settings) > 1:
            best = choose(train, settings, fit_path, view_um=self.inputs().view_um(train), val=val)
        self.strength_, self.temperature_ = best
        self.genes_ = train.genes
        self.keep_parts(router, general, self._experts(train, router))
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot; ``ood`` is that of the generalist."""
        self.check_fitted()
        router, general = self.router(), self.restore_part(self._unfitted())
        experts = self.restore_experts(self._unfitted())
        setting = (self.strength_, self.temperature_)
        (mean,) = self._mixed(section, router, general, experts, [setting])
        return Prediction(mean, self.genes_, ood=general.predict(section).ood)

    def _mixed(
        self, section: Section, router: Router, general: Any, experts: list[Any], settings: list[tuple[float, float]]
    ) -> Iterator[np.ndarray]:
        """Yield the prediction of a section under each setting."""
        x, first = self.inputs().read(section), general.predict(section).mean
        found = [e.predict(section).mean for e in experts]
        for strength, temperature in settings:
            weights = strength * router.weights(x, temperature)
            yield (1 - strength) * first + sum(weights[:, [e]] * mean for e, mean in enumerate(found))

    def _experts(self, train: Cohort, router: Router) -> list[Any]:
        return [self._unfitted().fit(narrow(train, part)) for part in self.deal(router, train)]

    def _unfitted(self) -> Any:
        predictor: Params = predictors.create(self.method)  # type: ignore[assignment]
        own = predictor.get_params()
        given: dict[str, object] = {"encoder": self.encoder, "seed": self.seed}
        return predictor.with_params(**{k: v for k, v in given.items() if k in own})

"""A predictor that learns from completed labels: SpaRED's second claim, that completion before training helps.

Mejia et al., MICCAI 2024, arXiv:2407.13027. What is missing of the train sections is filled by a completer that
was fitted on them alone. Nothing is completed of what is scored.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.complete.base import complete, completers
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict.base import Prediction, Predictor, predictors


@dataclass(kw_only=True)
class OnCompletedPredictor(Params):
    """Another predictor, fitted on labels whose missing values a completer has filled.

    Parameters
    ----------
    method
        Name of the predictor.
    completer
        Name of the completer.
    encoder
        What the predictor reads of the image.
    seed
        Of the completer, if it has one.
    """

    name: ClassVar[str] = "on_completed"
    card: ClassVar[MethodCard] = MethodCard(
        summary="another predictor, fitted on labels whose gaps a completer has filled",
        paper="Mejia et al., MICCAI 2024, arXiv:2407.13027",
    )
    method: str = "ridge"
    completer: str = "adaptive_median"
    encoder: str = "color"
    seed: int = 0

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Complete the train sections, and fit the predictor on them."""
        completer = completers.create(self.completer)
        if "seed" in completer.get_params():  # type: ignore[attr-defined]
            completer = completer.with_params(seed=self.seed)  # type: ignore[attr-defined]
        completer.fit(train)

        def fill(section: Section) -> Section:
            table = section.table.copy()
            table.layers[keys.TARGET] = complete(completer, section).table.layers[keys.COMPLETED]
            return section.with_table(table)

        fitted = self._predictor().fit(train.map(fill), val=val)
        self.set_fitted(fitted.get_fitted())  # type: ignore[attr-defined]
        return self

    def predict(self, section: Section) -> Prediction:
        """Return what the predictor makes of the image."""
        self.check_fitted()
        return self._predictor().set_fitted(self.get_fitted()).predict(section)  # type: ignore[attr-defined]

    def _predictor(self) -> Predictor:
        return predictors.create(self.method, encoder=self.encoder)

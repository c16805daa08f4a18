"""A predictor that sees every section in the stain of the training: see ``prep/stain.py`` for the papers.

The reference is the mean stain of the train donors, fitted with the rest, so that no fold sees the stain of what it is
tested on. A new section's own stain is read from its image.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.params import Params
from hescribe.predict.base import Prediction, Predictor
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.stain import Method, Stain, mean_stain, section_stain, with_stain

INNER = "predictor_"  # start of the names of what the predictor learned


@dataclass(kw_only=True)
class StainedPredictor(Params):
    """Another predictor, on images whose stain is brought to the mean of the train donors.

    Parameters
    ----------
    predictor
        The predictor.
    stain
        ``"macenko"`` or ``"reinhard"``.
    """

    name: ClassVar[str] = "stained"
    card: ClassVar[MethodCard] = MethodCard(
        summary="another predictor, on images brought to one stain",
        paper="Macenko et al., ISBI 2009, doi:10.1109/ISBI.2009.5193250; "
        "Reinhard et al., IEEE CG&A 2001, doi:10.1109/38.946629",
        transductive=True,
        differs="Both aim at the mean stain of the train donors.",
    )
    predictor: Predictor = field(default_factory=RidgePredictor)
    stain: Method = "macenko"

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Measure the stains of the train sections, and fit the predictor on images brought to their mean.

        Raises
        ------
        InputError
            If there is no such normalisation, or too little of a section is stained; else see the predictor.
        """
        stains = {s.id: section_stain(s, self.stain) for s in train}
        by_donor = [mean_stain([stains[s.id] for s in train if s.donor == d], self.stain) for d in train.donors]
        reference = mean_stain(by_donor, self.stain)

        def dye(section: Section) -> Section:
            return with_stain(section, self.stain, reference)

        inner: Any = self._unfitted().fit(train.map(dye), val=None if val is None else val.map(dye))
        self.genes_, self.stain_ = train.genes, {"first": reference.first, "second": reference.second}
        return self.set_fitted({INNER + name: value for name, value in inner.get_fitted().items()})

    def predict(self, section: Section) -> Prediction:
        """Return what the predictor makes of the image in the stain of the training."""
        self.check_fitted()
        of_inner = {k.removeprefix(INNER): v for k, v in self.get_fitted().items() if k.startswith(INNER)}
        reference = Stain(*(np.asarray(self.stain_[part]) for part in ("first", "second")))
        return self._unfitted().set_fitted(of_inner).predict(with_stain(section, self.stain, reference))

    def encoder_name(self) -> str | None:
        """Return the image encoder that the predictor reads."""
        own: Any = self.predictor
        name = own.encoder_name() if hasattr(own, "encoder_name") else getattr(own, "encoder", None)
        return name if isinstance(name, str) else None

    def _unfitted(self) -> Any:
        return self.predictor.with_params()  # type: ignore[attr-defined]

"""The default predictor: what colour, a network and their surroundings say, averaged, of how spots of a section differ.

A design of our own, made on synthetic cohorts (toy seeds 0-2) and inner folds. Four ridges read the image in ways that
err differently: colour keeps the slide's stain and is exact about density, a network's features are taken relative
to their section and know shapes, and either is read with and without the rings around the spot. All learn how a spot
differs from the mean of its section, so that what tells donors apart is neither learned nor predicted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.spot_inputs import SpotInputs
from hescribe.errors import InputError
from hescribe.params import Params
from hescribe.predict._bank import Bank, name_heaviest
from hescribe.predict.base import Prediction
from hescribe.predict.ridge import ALPHAS, RidgePath, Spectrum
from hescribe.prep.novelty import Novelty
from hescribe.prep.scale import Scale
from hescribe.prep.split import inner_folds
from hescribe.train.inner import PredictEach, choose

TINY = 1e-12  # of a variance, so that ridges that say nothing divide nothing by 0
VIEWS = ("color", "color_context", "encoder", "encoder_context")


@dataclass(kw_only=True)
class DefaultPredictor(Params):
    """Average of four ridges on differences from the section mean.

    Each ridge has the penalty that the inner rule chooses. Their predictions for held-out train donors say how much
    each varies, by which it is divided before they are averaged, and by how much the average is multiplied so that
    its squared error is smallest. A prediction is the mean level of the train donors plus that.

    Parameters
    ----------
    encoder
        Image encoder beside colour.
    fov_um
        Sides of its patches; None takes those of its card.
    n_rings
        Rings of neighbours that the two ridges with surroundings read.
    views
        Which of the four ridges take part, for ablation.
    keep_spots
        Whether to keep the inputs of the training spots, which ``explain`` needs: 4 bytes a spot and dimension.

    Examples
    --------
    >>> from hescribe.testing.cohorts import colour_cohort
    >>> cohort = colour_cohort()
    >>> prediction = DefaultPredictor(encoder="color").fit(cohort).predict(cohort[0].blind())
    >>> prediction.mean.shape == (cohort[0].n_spots, len(cohort.genes))
    True
    """

    name: ClassVar[str] = "default"
    card: ClassVar[MethodCard] = MethodCard(
        summary="average of four ridges: colour and a network, with and without the rings around the spot",
        transductive=True,
    )
    encoder: str = "efficientnet_lite0"
    fov_um: tuple[float, ...] | None = None
    n_rings: int = 2
    views: tuple[str, ...] = VIEWS
    keep_spots: bool = False

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:
        """Learn the weights of every gene."""
        inputs = self._inputs()
        view_um = max(i.view_um(train) for i in inputs.values())
        self.alpha_ = tuple(choose(train, ALPHAS, _Choices(i), view_um=view_um, val=val) for i in inputs.values())
        folds = [(train, val)] if val is not None else inner_folds(train, view_um=view_um)
        self.weight_ = self._weigh([f for f in folds if any(s.kept.any() for s in f[0])])
        x = {view: i.read_kept(train) for view, i in inputs.items()}
        scales = {view: Scale.of(values) for view, values in x.items()}
        self.mean_, self.sd_ = ({view: getattr(s, part) for view, s in scales.items()} for part in ("mean", "sd"))
        x = {view: scales[view].apply(values) for view, values in x.items()}
        self.genes_, self.level_, self.coef_ = self._solve([train], x)
        self.novelty_ = vars(Novelty.fit(x[self.views[0]]))
        if self.keep_spots:
            self.bank_ = Bank.of(train, np.hstack(list(x.values()))).state()
        return self

    def predict(self, section: Section) -> Prediction:
        """Return the expression of every spot."""
        self.check_fitted()
        total = np.zeros((section.n_spots, len(self.genes_)), dtype=np.float32)
        for (view, inputs), weight in zip(self._inputs().items(), self.weight_, strict=True):
            x = self._scale(view).apply(inputs.read(section))
            if view == self.views[0]:
                ood = Novelty(**self.novelty_).score(x)
            # Weighed here, for there are more spots than inputs.
            total += x @ (weight * self.coef_[view]).astype(np.float32)
        total += self.level_ - total.mean(axis=0)
        return Prediction(total, self.genes_, ood=ood)

    def explain(self, section: Section) -> pd.DataFrame:
        """Return the training spots that weigh most in the prediction of every spot: see ``Explains``.

        A weight multiplies how the training spot differs from the mean of its section.
        """
        self.check_fitted()
        if not hasattr(self, "bank_"):
            raise InputError("this model kept no training spots, so that it cannot name them; fit it with keep_spots")
        bank = Bank.restore(self.bank_)
        x = np.hstack([self._scale(v).apply(i.read(section)) for v, i in self._inputs().items()])
        ends = np.cumsum([len(self.mean_[v]) for v in self.views])[:-1]
        spectra = [Spectrum.of(part) for part in np.split(bank.vectors, ends, axis=1)]

        def weigh(part: np.ndarray) -> np.ndarray:
            views = np.split(part - x.mean(axis=0), ends, axis=1)
            each = zip(self.weight_, spectra, views, self.alpha_, strict=True)
            return np.sum([w * spectrum.weights(view, alpha) for w, spectrum, view, alpha in each], axis=0)

        return name_heaviest(bank, x, section.table.obs_names, weigh)

    def fit_blocks(self, blocks: Iterable[Cohort]) -> Self:
        """Return a copy for the genes of all blocks, with the penalties and weights of this fit: see ``GeneWise``."""
        self.check_fitted()
        blocks = iter(blocks)
        first = next(blocks)
        x = {view: self._scale(view).apply(i.read_kept(first)) for view, i in self._inputs().items()}
        wide = dict(zip(("genes_", "level_", "coef_"), self._solve(chain([first], blocks), x), strict=True))
        return self.with_params().set_fitted({**self.get_fitted(), **wide})

    def _scale(self, view: str) -> Scale:
        return Scale(self.mean_[view], self.sd_[view])

    def _inputs(self) -> dict[str, SpotInputs]:
        """Return what each ridge reads of the image."""
        color: dict[str, Any] = {"encoder": "color", "fov_um": None, "standardise": "train"}
        encoder: dict[str, Any] = {"encoder": self.encoder, "fov_um": self.fov_um, "standardise": "section"}
        every = {
            "color": SpotInputs(**color, n_rings=0),
            "color_context": SpotInputs(**color, n_rings=self.n_rings),
            "encoder": SpotInputs(**encoder, n_rings=0),
            "encoder_context": SpotInputs(**encoder, n_rings=self.n_rings),
        }
        if not self.views or set(self.views) - set(VIEWS) or len(set(self.views)) < len(self.views):
            raise InputError(f"views of DefaultPredictor are some of {', '.join(VIEWS)}, each once; got {self.views!r}")
        return {view: every[view] for view in self.views}

    def _solve(
        self, blocks: Iterable[Cohort], x: dict[str, np.ndarray]
    ) -> tuple[tuple[str, ...], np.ndarray, dict[str, np.ndarray]]:
        """Return genes, levels and coefficients of all blocks; the scaled inputs ``x`` of the views serve all."""
        spectra = {view: Spectrum.of(values) for view, values in x.items()}
        genes: list[str] = []
        levels, coef = [], {view: list[np.ndarray]() for view in self.views}
        for block in blocks:
            y = _differences(block)
            for view, alpha in zip(self.views, self.alpha_, strict=True):
                coef[view].append(RidgePath.solve(spectra[view], y).coef(alpha))
            genes += block.genes
            levels.append(_mean_level(block))
        return tuple(genes), np.concatenate(levels), {view: np.hstack(parts) for view, parts in coef.items()}

    def _weigh(self, folds: list[tuple[Cohort, Cohort]]) -> np.ndarray:
        """Return what the prediction of each ridge is multiplied by, from those for the spots left out of a fold.

        Sums of products over spots and genes say all: the mean over donors of those of two ridges, and of a ridge
        and the truth.
        """
        moments: dict[str, list[np.ndarray]] = {}
        for inner, outer in folds:
            fitted = [(i, *_fit_path(i, inner), a) for i, a in zip(self._inputs().values(), self.alpha_, strict=True)]
            for section in outer:
                if section.kept.sum() < 2:
                    continue
                parts = [section.layer(keys.TARGET).astype(np.float64)]
                for inputs, scale, path, alpha in fitted:
                    x = scale.apply(inputs.read(section)[section.kept])
                    parts.append(next(path.predict_each(x, (alpha,))))
                flat = np.stack([(p - p.mean(axis=0)).ravel() for p in parts])
                moments.setdefault(section.donor, []).append(flat @ flat.T / flat.shape[1])
        product = np.mean([np.mean(m, axis=0) for m in moments.values()], axis=0)
        weight = 1 / np.sqrt(np.maximum(np.diag(product)[1:], TINY))
        gain = weight @ product[0, 1:] / max(weight @ product[1:, 1:] @ weight, TINY)
        return np.asarray(weight * max(gain, 0.0))


@dataclass(frozen=True)
class _Choices:
    """Fits one ridge with every penalty, for the inner rule."""

    inputs: SpotInputs

    def __call__(self, train: Cohort) -> PredictEach:
        scale, path = _fit_path(self.inputs, train)

        def predict(section: Section) -> Iterator[np.ndarray]:
            return path.predict_each(scale.apply(self.inputs.read(section)), ALPHAS)

        return predict


def _fit_path(inputs: SpotInputs, train: Cohort) -> tuple[Scale, RidgePath]:
    """Return the scale of the inputs and the ridges on differences from the section mean, for every penalty."""
    x = inputs.read_kept(train)
    scale = Scale.of(x)
    return scale, RidgePath.fit(scale.apply(x), _differences(train))


def _differences(train: Cohort) -> np.ndarray:
    """Return the target of all kept spots less the mean of their section, shape ``(n_spots, n_genes)``."""
    targets = [s.layer(keys.TARGET) for s in train if s.kept.any()]
    return np.concatenate([y - y.mean(axis=0) for y in targets])


def _mean_level(train: Cohort) -> np.ndarray:
    """Return the mean target of each gene, every donor weighing the same, shape ``(n_genes,)``."""
    by_donor = [
        np.mean([s.layer(keys.TARGET).mean(axis=0) for s in train if s.donor == d and s.kept.any()], axis=0)
        for d in train.donors if any(s.kept.any() for s in train if s.donor == d)
    ]  # fmt: skip
    return np.asarray(np.mean(by_donor, axis=0))

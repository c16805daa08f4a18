"""ComBat: batches brought to one location and scale, fitted on some spots and applied to others.

Johnson, Li and Rabinovic, Adjusting batch effects in microarray expression data using empirical
Bayes methods, Biostatistics 2007, doi:10.1093/biostatistics/kxj037; parametric prior, no covariates.
We differ: fit and transform are two steps, genes that do not vary stay out of the prior, the
iteration runs to convergence, and no matrix of spots by spots or spots by batches is formed.

SpaRED corrects with the package ``combat`` 0.3.3, whose result is another one (``legacy_combat``):
its update of a gene's scale takes squared distances from the location of the *first* gene, so that
a result depends on the order of the genes; its variances within a batch and over genes divide by n,
not n - 1; and it stops when the largest *signed* relative change is small, which genes with a
negative location never are.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from hescribe.errors import InputError
from hescribe.params import Params

TOLERANCE, LEGACY_TOLERANCE = 1e-8, 1e-4  # largest relative change at which the iteration stops
MAX_STEPS, LEGACY_STEPS = 10_000, 1_000_000  # never reached by expression
ROUNDING = 1e-16  # a gene's variance below this share of its squared mean is rounding
FLAT = 1e-12  # a batch's variance below this share of the common one is rounding


@dataclass(kw_only=True)
class Combat(Params):
    """Empirical Bayes correction of each batch's location and scale.

    Parameters
    ----------
    reference
        Batch the others are brought to, which is not changed; None: the mean over all spots of the fit.
    legacy_combat
        Compute what the package ``combat`` 0.3.3 does, faults included; results depend on the order of the genes.

    Notes
    -----
    A gene that is constant inside every batch of the fit (with a reference: inside the reference)
    has no scale to be brought to: it is returned as given and takes no part in the priors. A batch
    of one spot, or of equal spots, has no scale of its own either: only its location is corrected.
    ``legacy_combat`` refuses them, because ``combat`` turns all values into NaN.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batch = np.repeat(["a", "b"], 50)
    >>> values = rng.normal(size=(100, 20)) + 3.0 * (batch == "b")[:, None]
    >>> corrected = Combat().fit(values, batch).transform(values, batch)
    >>> bool(abs(corrected[:50].mean() - corrected[50:].mean()) < 0.1)
    True
    """

    reference: str | None = None
    legacy_combat: bool = False

    def fit(self, values: np.ndarray, batch: np.ndarray) -> Self:
        """Learn the common location and scale, and the deviation of each batch from them.

        Parameters
        ----------
        values
            Log expression, shape ``(n_spots, n_genes)``.
        batch
            Label of each spot's batch, shape ``(n_spots,)``.

        Raises
        ------
        InputError
            If there is one batch only, the reference is none of them, no gene varies, a value is not
            finite, or labels and values differ in number.
        """
        x, code, names = _checked(values, batch)
        if len(names) < 2:
            raise InputError(f"ComBat needs at least two batches to compare, and all spots are of batch {names[0]!r}")
        if self.reference is not None and (self.reference not in names or self.legacy_combat):
            problem = "legacy_combat takes no reference" if self.legacy_combat else f"there are {', '.join(names)}"
            raise InputError(f"{self.reference!r} cannot be the reference batch; {problem}")
        members = [np.flatnonzero(code == b) for b in range(len(names))]
        moments = [_Moments.of(x[spots]) for spots in members]
        common = moments if self.reference is None else [moments[names.index(self.reference)]]
        n_common = sum(m.n for m in common)
        self.mean_: np.ndarray = np.stack([m.n * m.mean for m in common]).sum(axis=0) / n_common
        variance = np.stack([m.n * m.variance for m in common]).sum(axis=0) / n_common
        self.varies_ = variance > ROUNDING * np.maximum(self.mean_**2, 1e-300)
        if not self.varies_.any():
            raise InputError("no gene varies inside a batch; ComBat has no scale to bring the batches to")
        if self.legacy_combat and not self.varies_.all():
            raise InputError(
                f"gene {int(np.argmin(self.varies_))} is constant inside every batch, which turns all results of "
                "combat 0.3.3 into NaN; leave constant genes out, or use legacy_combat=False"
            )
        self.sd_ = np.where(self.varies_, np.sqrt(variance), 1.0)
        self.batches_ = names
        effects = [self._effect(m, b) for m, b in zip(moments, names, strict=True)]
        self.location_, self.scale_ = (np.stack(e) for e in zip(*effects, strict=True))
        return self

    def transform(self, values: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """Return the corrected values, float64, shape ``(n_spots, n_genes)``.

        A batch of the fit takes the deviation learned there. The deviation of a new batch is
        estimated from the values given here: that reads the new batch's expression, so that a
        benchmark must mark it ``uses_truth`` and never correct a scored target with it.

        Parameters
        ----------
        values, batch
            As for ``fit``, on the same genes; all spots of a new batch together.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        InputError
            As ``fit`` does, or if the number of genes is not that of the fit.
        """
        self.check_fitted()
        x, code, names = _checked(values, batch)
        if x.shape[1] != len(self.mean_):
            raise InputError(f"ComBat was fitted on {len(self.mean_)} genes and the values have {x.shape[1]}")
        out = np.empty_like(x)
        for b, name in enumerate(names):
            spots = np.flatnonzero(code == b)
            given = x[spots]
            if name in self.batches_:
                known = self.batches_.index(name)
                location, scale = self.location_[known], self.scale_[known]
            else:
                location, scale = self._effect(_Moments.of(given), name)
            factor = 1.0 / np.sqrt(scale)
            out[spots] = given * factor + (self.mean_ * (1.0 - factor) - self.sd_ * location * factor)
        return out

    def _effect(self, moments: "_Moments", name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch's location and variance in units of the common scale, shape ``(n_genes,)`` each."""
        location, scale = np.zeros(len(self.mean_)), np.ones(len(self.mean_))
        if name == self.reference:
            return location, scale
        on = self.varies_
        own = _Moments(moments.n, ((moments.mean - self.mean_) / self.sd_)[on], (moments.variance / self.sd_**2)[on])
        if self.legacy_combat:
            if not own.variance.var() > 0:
                raise InputError(
                    f"batch {name!r} has no gene that varies, or one gene only, which turns all results of combat "
                    "0.3.3 into NaN; merge it with another batch, or use legacy_combat=False"
                )
            location[on], scale[on] = _shrink_legacy(own)
        elif own.has_scale:
            location[on], scale[on] = _shrink(own)
        else:
            location[on] = _shrink_location(own, own.n, np.ones(int(on.sum())))
        return location, scale


@dataclass(frozen=True)
class _Moments:
    """Number of spots of a batch, and mean and variance (over n) of each gene in it."""

    n: int
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "_Moments":
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, np.einsum("ij,ij->j", centred, centred) / len(x))

    @property
    def has_scale(self) -> bool:
        return self.n > 1 and bool((self.variance > FLAT).any())


def _shrink(own: _Moments) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior means of location and variance: each gene drawn to the batch's typical gene.

    The inverse gamma prior of the variances has their mean m and variance s2 over genes:
    a = 2 + m^2 / s2 and b = m + m^3 / s2. Both sides of b / a are multiplied by s2, so that equal
    variances (of a single gene, say) draw all the way.
    """
    sample = own.variance * own.n / (own.n - 1)
    m, s2 = sample.mean(), sample.var(ddof=1) if len(sample) > 1 else 0.0
    location, scale = own.mean, sample
    for _ in range(MAX_STEPS):
        old = (location, scale)
        location = _shrink_location(own, own.n, scale)
        squares = own.n * (own.variance + (own.mean - location) ** 2)
        scale = (s2 * squares / 2 + m * (s2 + m**2)) / (s2 * (own.n / 2 + 1) + m**2)
        if max(np.abs(location - old[0]).max(), np.abs(scale - old[1]).max()) < TOLERANCE:
            break
    return location, scale


def _shrink_location(own: _Moments, n: int, scale: np.ndarray) -> np.ndarray:
    """Return the posterior mean of the location, given the variance around it."""
    centre, spread = own.mean.mean(), own.mean.var()
    weight = spread * n + scale
    return np.where(weight > 0, (spread * n * own.mean + scale * centre) / np.where(weight > 0, weight, 1.0), centre)


def _shrink_legacy(own: _Moments) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``combat`` 0.3.3 computes: squares around the first gene's location, a signed stop."""
    m, s2 = own.variance.mean(), own.variance.var()
    a, b = 2 + m**2 / s2, m + m**3 / s2
    location, scale = own.mean, own.variance
    for _ in range(LEGACY_STEPS):
        old = (location, scale)
        location = _shrink_location(own, own.n, scale)
        squares = own.n * (own.variance + (own.mean - location[0]) ** 2)
        scale = (squares / 2 + b) / (own.n / 2 + a - 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a location of 0 ends the iteration there, too
            change = max((np.abs(location - old[0]) / old[0]).max(), (np.abs(scale - old[1]) / old[1]).max())
        if not change > LEGACY_TOLERANCE:
            break
    return location, scale


def _checked(values: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return values as float64, the number of each spot's batch, and the batches, sorted."""
    x = np.asarray(values, dtype=np.float64)
    labels = np.asarray(batch).astype(str)
    if x.ndim != 2 or labels.shape != x.shape[:1] or not x.size:
        raise InputError(f"values of shape {x.shape} need one batch label a spot, got shape {labels.shape}")
    if not np.isfinite(x).all():
        spot, gene = np.argwhere(~np.isfinite(x))[0]
        raise InputError(f"the value of spot {spot}, gene {gene} is {x[spot, gene]}; ComBat needs finite values")
    names, code = np.unique(labels, return_inverse=True)
    return x, code, tuple(map(str, names))

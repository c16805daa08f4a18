"""How few labelled spots it takes to find the regions that a pathologist drew, from some embedding of the spots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hescribe.errors import InputError
from hescribe.metrics.slides import auc
from hescribe.prep.scale import Scale

SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class LabelledSpots:
    """Embedded spots of one donor and the regions they lie in.

    Parameters
    ----------
    donor
        Who they are of.
    x
        Shape ``(n_spots, n_dims)``.
    region
        Names, shape ``(n_spots,)``.
    """

    donor: str
    x: np.ndarray
    region: np.ndarray


@dataclass(frozen=True)
class ShotScore:
    """How well regions of a test donor are told from each other after ``k`` labelled spots of each.

    Parameters
    ----------
    donor
        Of the test spots.
    k, seed
        Labelled spots a region, and the draw of them.
    auc
        Mean over regions of one against the others.
    n_regions
        That there were enough spots of.
    """

    donor: str
    k: int
    seed: int
    auc: float
    n_regions: int


def score_shots(
    train: Sequence[LabelledSpots], test: LabelledSpots, *, shots: Sequence[int] = SHOTS, n_seeds: int = 20
) -> list[ShotScore]:
    """Learn regions from few spots, and score all spots of another donor, or of another part of its section.

    A penalised logistic regression on embeddings that are centred and scaled to a length of about 1, with the same
    penalty for each: so few labels choose nothing. The test spots are the same for every draw.

    Parameters
    ----------
    train
        Spots to draw labelled ones from, by donor.
    test
        Not among them.
    shots
        Labelled spots a region. Regions are those that ``train`` holds enough of for the largest number, so that the
        curve compares like with like, and that ``test`` holds at least one of.
    n_seeds
        Draws for each number of shots.

    Raises
    ------
    InputError
        If fewer than two regions are left.

    Examples
    --------
    >>> x, region = np.eye(2)[[0, 0, 1, 1]], np.array(["stroma", "stroma", "tumour", "tumour"])
    >>> spots = LabelledSpots("A", x, region)
    >>> [s.auc for s in score_shots([spots], LabelledSpots("B", x, region), shots=(1,), n_seeds=1)]
    [1.0]
    """
    pool, region = np.concatenate([t.x for t in train]), np.concatenate([t.region for t in train])
    names, count = np.unique(region, return_counts=True)
    used = [n for n, c in zip(names, count, strict=True) if c >= max(shots) and (test.region == n).any()]
    if len(used) < 2:
        raise InputError(f"donor {test.donor} has {len(used)} regions with {max(shots)} labelled train spots; needs 2")
    scale, width = Scale.overall(pool), np.sqrt(pool.shape[1])  # directions keep their sizes beside each other
    kept = np.isin(test.region, used)
    x_test, y_test = scale.apply(test.x[kept]) / width, test.region[kept]
    return [
        ShotScore(test.donor, k, seed, _score(scale.apply(pool[rows]) / width, region[rows], x_test, y_test), len(used))
        for k in shots
        for seed, rows in _draws(region, used, k, n_seeds)
    ]


def _draws(region: np.ndarray, used: list[str], k: int, n_seeds: int) -> Iterator[tuple[int, np.ndarray]]:
    for seed in range(n_seeds):
        rng = np.random.default_rng([seed, k])
        yield seed, np.concatenate([rng.choice(np.flatnonzero(region == name), k, replace=False) for name in used])


def _score(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - 0.5 s

    model = LogisticRegression(max_iter=1000).fit(x, y)
    told = model.decision_function(x_test)
    told = np.column_stack([-told, told]) if told.ndim == 1 else told
    return float(np.mean([auc(y_test == name, told[:, i])[0] for i, name in enumerate(model.classes_)]))

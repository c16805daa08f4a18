"""The curve of robustness: what is shifted, what stays, and that an aligner is fitted on train donors as they were."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hescribe import keys
from hescribe.bench.protocols import read_protocol
from hescribe.bench.shifted import shift_curve, shift_test
from hescribe.bench.task import PredictionTask
from hescribe.data.batch_shift import BatchShift
from hescribe.data.toy import toy_cohort
from hescribe.params import Params


@pytest.fixture(scope="module")
def folds():
    cohort = toy_cohort(0, n_donors=2, n_spots=40, n_genes=40)
    return list(PredictionTask(cohort, read_protocol("donor-v1")).folds())


@dataclass(kw_only=True)
class Perfect(Params):
    """Finds every spot by its place among the train counts; remembers what it was fitted on."""

    name: ClassVar[str] = "perfect"
    seen: ClassVar[list] = []

    def fit(self, train, *, val=None):
        self.seen.append(train)
        return self

    def embed_image(self, section):
        angle = np.linspace(0, np.pi / 2, section.n_spots)
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)

    embed_expression = embed_image


def test_the_same_spots_are_asked_with_the_target_of_their_new_counts(folds):
    fold = folds[0]
    shifted = shift_test(fold, BatchShift.of(1.0))[0]
    np.testing.assert_array_equal(shifted.kept, fold.test[0].kept)
    counts, depth = shifted.layer(keys.COUNTS), shifted.depth[shifted.kept]
    np.testing.assert_allclose(
        shifted.layer(keys.TARGET), np.log1p(1e4 * counts / np.maximum(depth, 1)[:, None]), rtol=1e-4
    )
    assert depth.sum() < 0.3 * fold.test[0].depth[fold.test[0].kept].sum()


def test_what_reads_neither_image_nor_counts_does_not_change(folds):
    Perfect.seen.clear()
    curve = shift_curve(Perfect(), folds, strengths=(0.0, 1.0))
    assert {s: m.value for s, m in curve.items()} == {0.0: 1.0, 1.0: 1.0}
    assert set(curve[0.0].by_donor) == {"toy@1-0/D01", "toy@1-0/D02"}
    assert [a is b.train for a, b in zip(Perfect.seen, folds, strict=True)] == [True, True]


def test_both_sides_are_embedded_as_the_other_batch_shows_them(folds):
    @dataclass(kw_only=True)
    class Watching(Perfect):
        images: ClassVar[list] = []
        depths: ClassVar[list] = []

        def embed_image(self, section):
            self.images.append(section.image.fingerprint)
            assert not section.table.layers
            return super().embed_image(section)

        def embed_expression(self, section):
            self.depths.append(section.depth.sum())
            return super().embed_image(section)

    shift_curve(Watching(), folds[:1], strengths=(0.0, 1.0), kinds=["stain", "depth"])
    assert "haematoxylin 1.0" in Watching.images[0]
    assert "haematoxylin 0.5" in Watching.images[1]
    assert Watching.depths[1] == pytest.approx(Watching.depths[0] / 4, rel=0.02)

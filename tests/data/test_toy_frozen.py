"""toy@1 is frozen: whoever changes what these tests pin must call the result toy@2."""

import hashlib

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.toy import VERSION, toy_cohort

COUNTS = ("ebf796ec9465807b", "156c8bfee3586174")
DEPTH = ("e29e2965f1b752f4", "35073865afc40afb")
# Mean green of the 4 x 4 parts of each image: pixels may differ by a grey level where sums are rounded otherwise.
GREEN = (
    (
        (239.5, 196.6, 190.4, 241.7),
        (194.3, 129.7, 122.5, 228.7),
        (183.9, 117.8, 122.2, 230.3),
        (230.9, 160.5, 177.1, 242.1),
    ),
    (
        (229.6, 182.0, 160.9, 231.0),
        (177.5, 88.4, 84.7, 201.6),
        (182.4, 91.0, 96.3, 202.2),
        (230.8, 164.7, 146.9, 227.3),
    ),
)
TRUTH = ((1.9837, 0.7733), (1.7059, 0.9569))  # mean and sd


@pytest.fixture(scope="module")
def sections():
    return toy_cohort(0, n_donors=2, n_spots=40, n_genes=30).sections


def digest(values):
    return hashlib.sha256(np.asarray(values).astype("<i8").tobytes()).hexdigest()[:16]


def test_version_is_the_frozen_one():
    assert VERSION == "toy@1"


def test_counts_are_those_of_toy_1(sections):
    assert tuple(digest(s.layer(keys.COUNTS)) for s in sections) == COUNTS


def test_depth_is_that_of_toy_1(sections):
    assert tuple(digest(s.depth) for s in sections) == DEPTH


def test_truth_is_that_of_toy_1(sections):
    moments = [(s.layer(keys.TRUTH).mean(), s.layer(keys.TRUTH).std()) for s in sections]
    assert np.allclose(moments, TRUTH, atol=2e-4)


def test_images_are_those_of_toy_1(sections):
    green = [s.image.pixels[..., 1].reshape(4, 480, 4, 480).mean((1, 3)) for s in sections]
    assert np.allclose(green, GREEN, atol=0.2)

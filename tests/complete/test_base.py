"""What stands in a completed section, from a completer that says what it is told."""

from dataclasses import dataclass

import numpy as np
import pytest

from hescribe import keys
from hescribe.complete.base import Completion, complete
from hescribe.testing.completers import thin_cohort


@dataclass
class Told:
    """Says one value and one standard deviation of every entry."""

    mean: float
    sd: float

    def estimate(self, section):
        shape = (section.n_spots, len(section.genes))
        return Completion(np.full(shape, self.mean, np.float32), np.full(shape, self.sd, np.float32))


def filled(mean, sd):
    """Return value and standard deviation of what is filled in."""
    layers = complete(Told(mean, sd), thin_cohort()[0]).table.layers
    gaps = ~layers[keys.OBSERVED]
    value, spread = (np.unique(layers[k][gaps]) for k in (keys.COMPLETED, keys.COMPLETED_SD))
    return value.item(), spread.item()


def test_what_is_filled_in_has_the_unit_of_lognorm_values():
    """log2(1 + 1e6 r) = 10, 9 and 11 are r = 1023e-6, 511e-6 and 2047e-6; ln(1 + 1e4 r) is 2.4186, 1.8099, 3.0667."""
    value, spread = filled(10, 1)
    assert value == pytest.approx(2.4186, abs=1e-4)
    assert spread == pytest.approx((3.0667 - 1.8099) / 2, abs=1e-4)


@pytest.mark.parametrize("sd", [50, 500])
def test_a_completer_that_knows_nothing_fills_in_no_more_than_there_can_be(sd):
    """Between nothing and all counts of the spot lie 0 and ln(1 + 1e4) = 9.2104."""
    assert filled(10, sd)[1] == pytest.approx(9.2104 / 2, abs=1e-4)
    assert filled(sd, 1)[0] == pytest.approx(9.2104, abs=1e-4)

"""Fixtures that every test may use."""

from pathlib import Path

import pytest

from hescribe.data.cohort import Cohort
from hescribe.testing.cohorts import colour_cohort, raw_colour_cohort

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data that lies beside a checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared real data is not beside this checkout (../shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HESCRIBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def raw_cohort() -> Cohort:
    """Return six small synthetic sections of three donors, as an import gives them."""
    return raw_colour_cohort()


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """Return the same sections, normalised: what ``fit`` is given."""
    return colour_cohort()

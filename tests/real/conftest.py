"""Cohorts of real data that several modules read."""

import pytest

from hescribe.data.importing import import_cohort


@pytest.fixture(scope="session")
def her2st(shared_data, tmp_path_factory):
    """Return the folder of the imported cohort: 36 sections, seven with an image."""
    out = tmp_path_factory.mktemp("her2st") / "cohort"
    import_cohort(shared_data / "her2st", "st", out)
    return out

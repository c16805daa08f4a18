"""Real sections pass the checks that planted faults fail: neighbours of one block are not one tissue."""

from dataclasses import replace

import numpy as np
import pytest

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.folder import write_cohort
from hescribe.data.image import ArrayImage
from hescribe.data.importing import import_cohort
from hescribe.data.validate import check_cohort
from hescribe.prep.quality import find_flaws, measure_counts, measure_image

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def mob(shared_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("mob") / "cohort"
    return import_cohort(shared_data / "stutility_mob", "st", out, card="stutility_mob").cohort


def flaws(sections):
    return find_flaws({s.id: measure_counts(s) for s in sections}, {s.id: measure_image(s) for s in sections})


def reduced(section, name, donor):
    """The section with its image scaled down and mirrored, a fifth of its spots dropped and renamed."""
    width, height = section.image.size_um
    pixels = section.image.read(0.0, 0.0, (width, height), 2 * section.image.mpp)[:, ::-1]
    table = section.table[np.arange(section.n_spots) % 5 > 0].copy()
    table.obs_names = [f"{name}-{i}" for i in range(table.n_obs)]
    xy = section.xy_um[np.arange(section.n_spots) % 5 > 0]
    xy[:, 0] = width - xy[:, 0]
    mpp = 2 * section.image.mpp
    table.obsm[keys.SPATIAL_UM], table.obsm[keys.SPATIAL] = xy, xy / mpp
    image = ArrayImage(np.ascontiguousarray(pixels), mpp, name)
    return replace(section, id=name, donor=donor, table=table, image=image, card=replace(section.card, mpp=mpp))


def test_four_sections_of_two_mice_are_four_tissues_and_a_changed_copy_is_none(mob, tmp_path):
    assert [f for f in check_cohort_of(mob, tmp_path / "c") if f.kind == "duplicate"] == []
    planted = replace(mob, sections=(*mob, reduced(mob[1], "x", "mouse9")))
    (found,) = [f for f in check_cohort_of(planted, tmp_path / "d") if f.kind == "duplicate"]
    assert (found.level, found.sections) == ("error", ("MOB2", "x"))
    assert "have the same counts and their images show the same tissue" in found.text


def check_cohort_of(cohort: Cohort, path):
    write_cohort(cohort, path)
    return check_cohort(path)


@pytest.mark.slow
def test_real_sections_are_in_order_and_in_place_and_planted_faults_are_not(mob):
    assert not any(flaws(mob).values())
    swapped, permuted = mob[0].table.copy(), mob[1].table.copy()
    swapped.obsm[keys.SPATIAL_UM] = mob[0].xy_um[:, ::-1]
    order = np.random.default_rng(0).permutation(mob[1].n_spots)
    permuted.layers[keys.COUNTS] = permuted.layers[keys.COUNTS][order]
    permuted.obs[keys.DEPTH] = mob[1].depth[order]
    found = flaws([mob[0].with_table(swapped), mob[1].with_table(permuted), *mob[2:]])
    assert "alignment" in found["MOB1"][0]
    assert "swapped" in found["MOB1"][0]
    assert found["MOB2"][0].startswith("disorder")
    assert found["MOB3"] == found["MOB4"] == []

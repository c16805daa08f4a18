import tomllib

import pytest

from hescribe.data.catalogue import find_entry, recognise
from hescribe.data.manifest import Manifest
from hescribe.data.toml_file import read_toml, to_toml
from hescribe.errors import DataAccessError, SchemaError, UnknownNameError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 1", "colour: is no key of this file"),
        ('technology = "visum"', "technology: is not one of legacy_st"),
        ("[[section]]\nimage = 'a.png'", r"section\[0\]\.id: is missing"),
        ("[[section]]\nid = 'a'\nmpp = -1", r"section\[0\]\.mpp: Input should be greater than 0"),
        ("[[section]]\nid = 'a'\nmpp = '0.5'", r"section\[0\]\.mpp: Input should be a valid number"),
        ("[[section]]\nid = 'a'\ncoordinate_scale = 0", "coordinate_scale: Input should be greater than 0"),
        ("[[section]]\nid = 'a'\nmask_boxes_px = [[5, 5, 2, 9]]", r"mask_boxes_px\[0\]: is no box"),
        ("[[section]]\nid = 'a'\nmask_boxes_px = [[5, 5, 2]]", r"mask_boxes_px\[0\]\[3\]: is missing"),
        ("[[section]]\nid = 'a'\nfill_rgb = [1, 2, 256]", r"fill_rgb\[2\]: Input should be less than or equal to 255"),
        ("[[section]]\nid = 'a'\n[[section]]\nid = 'a'", "section 'a' is stated twice"),
        ("[donors]\nx = ['a', 'b']\ny = ['b']", "section 'b' is stated twice"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_place(tmp_path, text, told):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(SchemaError, match=rf"m\.toml: .*{told}"):
        read_toml(tmp_path / "m.toml", Manifest)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DataAccessError, match=r"m\.toml cannot be read"):
        read_toml(tmp_path / "m.toml", Manifest)


def test_an_unlisted_section_takes_the_defaults():
    facts = Manifest(donors={"d": ("a",)}).of("a")
    assert (facts.image, facts.coordinate_scale, facts.mpp) == (None, 1.0, None)
    assert Manifest(donors={"d": ("a",)}).donor_of("a") == "d"


def test_what_is_written_is_read_back():
    content = {
        "a": 'q"\\\n\t\x00\x7fµ😀',
        "b": [1, 2.5, True],
        "t": {"x": []},
        "s": [{"id": "1", "i": {"p": "q"}}, {"id": "2"}],
    }
    assert tomllib.loads(to_toml(content | {"none": None})) == content


def test_an_unknown_dataset_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'her2st'"):
        find_entry("her2s")


def test_a_folder_that_only_looks_like_a_dataset_is_not_recognised(tmp_path):
    (tmp_path / "data/ST-spotfiles").mkdir(parents=True)
    (tmp_path / "data/ST-spotfiles/A1_selection.tsv").write_text("x\ty\n")
    assert recognise(tmp_path) is None


@pytest.mark.real
def test_her2st_is_recognised_by_its_files(shared_data):
    assert recognise(shared_data / "her2st").id == "her2st"

"""What the fuzzing found: each damage by hand, and what is said about it."""

import gzip
import json
import zlib

import h5py
import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS, TOKEN, scene

from hescribe.data.slide import open_image
from hescribe.data.stated_mpp import read_stated_mpp
from hescribe.data.untrusted import HEAP, check_parquet, open_h5, parse_json, read_npy, read_packed
from hescribe.errors import DataAccessError, FormatError, HescribeError, SchemaError
from hescribe.slide.bag_files import read_bags
from hescribe.view.scene import read_scene
from hescribe.view.server import COOKIE, create_app

HUGE = 10**9


def h5(name, change):
    """Return a damage to an HDF5 file: a dataset of it is replaced."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            attrs, values = dict(file[name].attrs), file[name][()]
            del file[name]
            change(file, name, values)
            file[name].attrs.update(attrs)

    return damage


def put(new):
    return lambda file, name, values: file.create_dataset(name, data=new(values))


def claim(file, name, values):
    file.create_dataset(name, shape=(HUGE, 64), dtype="f4", chunks=(1024, 64))


def loop(path):
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = h5py.SoftLink("/features")


def without_attribute(name, key):
    def damage(path):
        with h5py.File(path, "r+") as file:
            del file[name].attrs[key]

    return damage


def text(old, new):
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new))


def packed(old, new):
    return lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))


def npy_head(shape):
    """Return a damage to an array: its head claims another shape."""

    def damage(path):
        content = path.read_bytes()
        head = content[:128].decode("latin-1")
        head = head[: head.index("(") + 1] + shape + head[head.index(")") :]
        path.write_bytes(head.rstrip().ljust(127)[:127].encode("latin-1") + b"\n" + content[128:])

    return damage


def no_places(path):
    with h5py.File(path, "r+") as file:
        del file["obsm/spatial_um"]
        file.create_group("obsm/spatial_um").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})


def without_fov(path):
    content = json.loads(path.read_text())
    del content["params"]["fov_um"]
    path.write_text(json.dumps(content))


def endless_heap(path):
    """Let the first text of a heap be free space of no size."""
    content = bytearray(path.read_bytes())
    first = content.index(HEAP) + 16
    content[first : first + 16] = bytes(16)
    path.write_bytes(content)


HD = "colon/outs/binned_outputs/square_016um"
MATRIX = "filtered_feature_bc_matrix.h5"
FOUND = [
    ("visium", f"sample/outs/{MATRIX}", h5("matrix/shape", put(lambda v: v.astype("f4") * np.nan)), "Space Ranger"),
    ("visium_hd", f"{HD}/{MATRIX}", h5("matrix/features/id", put(lambda v: v[None])), "Space Ranger"),
    ("visium_hd", f"{HD}/{MATRIX}", h5("matrix/data", claim), "claims 256,000,000,000 bytes and holds 0"),
    ("visium_hd", f"{HD}/spatial/scalefactors_json.json", text(b"0.25", b"9" * 400), "has 400 digits"),
    ("visium_v3", "sample/outs/filtered_feature_bc_matrix/features.tsv.gz", packed(b"AAA", b"A\0A"), "null character"),
    ("hescape", "genes.txt", text(b"GENE3", b"\xc5\xff"), "no list of genes"),
    ("hescape", "genes.txt", text(b"GENE3", b"GE\0NE3"), "null character"),
    ("hest", "metadata/TENX99.json", text(b"0.25", b"1" + b"0" * 400), "has 401 digits"),
    ("hest", "wsis/TENX99.tif", lambda p: p.write_bytes(p.read_bytes()[:2630] + p.read_bytes()[2640:]), "is damaged"),
    ("h5ad", "one.h5ad", h5("obsm/spatial", put(lambda v: v[:0])), "must hold x and y of 16 spots"),
    ("visium", "sample/outs/spatial/scalefactors_json.json", text(b"0.1", b"-0.0"), "which is no scale"),
    ("cohort", "sections/s1.h5ad", h5("layers/counts/data", put(lambda v: v.astype("c16"))), "which are no counts"),
    ("h5ad", "one.h5ad", h5("X", put(lambda v: v[:-1])), "names 16 spots and 4 genes"),
    ("cohort", "sections/s0.h5ad", h5("layers/counts/indptr", put(lambda v: v[:0])), "is damaged"),
    ("cohort", "sections/s0.h5ad", h5("layers/counts/indices", put(lambda v: v + 1000)), "is damaged"),
    ("study", "study.toml", text(b"seeds = [0, 1]", b"seeds = " + b"[" * 20_000), "is not TOML"),
    ("study", "study.toml", text(b"seeds = [0, 1]", b"seeds = [" + b"9" * 5_000 + b"]"), "is not TOML"),
    ("gene_sets", "sets.toml", text(b'["MKI67"', b"[" * 20_000), "is not TOML"),
    ("prediction", "P/s0.h5ad", without_attribute("obs", "column-order"), "is damaged"),
    ("prediction", "P/s0.h5ad", without_attribute("uns/hescribe", "encoding-version"), "no readable h5ad"),
    ("prediction", "P/s0.h5ad", h5("layers/lower", put(lambda v: v[:-1])), "of shape .48, 4. for 49 spots"),
    ("h5ad", "two.h5ad", h5("obs/donor/categories", put(lambda v: v[None])), "of obs holds lists"),
    ("prediction", "P/s0.h5ad", h5("obsm/spatial_um", put(lambda v: v[0, 0])), "does not say where each spot lies"),
    ("prediction", "P/s0.h5ad", no_places, "does not say where each spot lies"),
    ("prediction", "P/s0.h5ad", lambda p: h5py.File(p, "r+").__delitem__("obsm/spatial_um"), "does not say where each"),
    ("visium_v3", "sample/outs/spatial/tissue_positions.csv", text(b"CELL13-1", b"\0"), "line 15 names no spot"),
    ("prediction", "cohort/sections/s0.h5ad", h5("obs/_index", put(lambda v: v[[0, 0, *range(2, len(v))]])), "twice"),
    ("aligner", "M/aligner.json", text(b'"dropout": 0.2', b'"dropout": -2'), "must be between 0 and 0.99, got -2"),
    ("aligner", "M/aligner.json", without_fov, "inputs were scaled in training"),
    ("xenium_csv", "transcripts.csv.gz", packed(b"transcript_id", b"\xff"), "no table of transcripts"),
    ("prediction", "P/s0.h5ad", endless_heap, "an object of its heap has no end"),
    ("h5ad", "one.h5ad", endless_heap, "an object of its heap has no end"),
    ("visium_hd", f"{HD}/{MATRIX}", h5("matrix/indptr", put(lambda v: v * (v < v[-1]))), "a row ends before it starts"),
    ("model", "M/model.json", text(b'"genes_"', b'"other_"'), "has no genes_: it is not fitted"),
    ("pairs", "pairs/pairs.json", text(b'"n_dims": [3, 2]', b'"n_dims": [3, Infinity]'), "pairs.json is damaged"),
    ("visium", f"sample/outs/{MATRIX}", h5("matrix/data", put(lambda v: v.astype("f2"))), "counts are whole numbers"),
    ("model", "M/model.json", text(b'"n_rings": 0', b'"n_rings": 2147483647'), "n_rings must be from 0 to 100"),
    ("aligner", "M/aligner.json", text(b'"name": "pca"', b'"name": 7'), "describes no aligner of this version"),
    ("prediction", "P/s0.h5ad", lambda p: h5py.File(p, "r+").__delitem__("var"), "its var is no table"),
    ("pairs", "pairs/pairs.json", text(b'"n_dims": [3, 2]', b'"n_dims": ""'), "pairs.json is damaged"),
    ("pairs", "pairs/00001.expression.npy", npy_head("True, 2"), "missing or damaged"),
    ("pairs", "pairs/00001.expression.npy", lambda p: p.write_bytes(p.read_bytes().replace(b"}", b"(")), "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "file", "damage", "said"), FOUND, ids=lambda v: v if isinstance(v, str) else "")
def test_a_damage_that_once_ended_in_a_traceback_is_told(tmp_path, target, file, damage, said):
    source = tmp_path / "source"
    source.mkdir()
    TARGETS[target].build(source)
    damage(source / file)
    with pytest.raises(HescribeError, match=said):
        TARGETS[target].use(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("a.h5", h5("features", claim), "claims 256,000,000,000 bytes"),
        ("a.h5", loop, "cannot be read as a bag"),
        ("a.h5", h5("features", lambda file, name, values: file.create_group(name)), "cannot be read as a bag"),
        ("b.npy", lambda p: np.save(p, np.array([["1", "x"]])), "features of the type <U1; expected numbers"),
        ("b.npy", npy_head(f"{HUGE}, {HUGE}"), "is damaged or no npy file"),
        ("b.npy", lambda p: p.write_bytes(p.read_bytes()[:13]), "is damaged or no npy file"),
    ],
)
def test_a_damaged_bag_is_told(tmp_path, file, damage, said):
    seeds.bags(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(HescribeError, match=said):
        read_bags(tmp_path)[file[0]].read()


def test_places_that_are_no_pairs_are_told(tmp_path):
    seeds.bags(tmp_path)
    h5("coords", put(lambda v: v[0, 0]))(tmp_path / "a.h5")
    with pytest.raises(FormatError, match=r"has places of shape \(\) for 8 tiles"):
        read_bags(tmp_path)["a"].read_places()


def test_a_file_that_lies_in_another_one_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(8,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(FormatError, match="keeps x in another file"), open_h5(tmp_path / "a.h5"):
        pass


def test_a_parquet_whose_head_claims_a_billion_rows_is_refused(tmp_path, monkeypatch):
    seeds.bags(tmp_path)
    monkeypatch.setattr("hescribe.data.untrusted.FREE_BYTES", 0)
    monkeypatch.setattr("hescribe.data.untrusted.RATIO", 1e-3)  # of a file that holds few rows
    with pytest.raises(FormatError, match="claims 320 bytes"):  # 8 rows of 5 columns, 8 bytes each
        check_parquet(tmp_path / "c.parquet")


def test_a_picture_whose_head_claims_more_than_its_bytes_can_hold_is_refused(tmp_path):
    seeds.images(tmp_path)
    content = (tmp_path / "b.png").read_bytes()
    head = b"IHDR" + (30_000).to_bytes(4) * 2 + content[24:29]
    (tmp_path / "b.png").write_bytes(content[:12] + head + zlib.crc32(head).to_bytes(4) + content[33:])
    with pytest.raises(FormatError, match=r"claims 2,700,000,000 bytes and holds .*made to fill memory"):
        open_image(tmp_path / "b.png", 0.5)


def test_a_folder_named_like_an_image_is_told(tmp_path):
    (tmp_path / "he.tif").mkdir()
    for read in (open_image, read_stated_mpp):
        with pytest.raises(DataAccessError, match=r"he\.tif is no file"):
            read(tmp_path / "he.tif")


def test_a_packed_text_that_unpacks_to_far_more_than_text_does_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hescribe.data.untrusted.FREE_BYTES", 1 << 20)
    (tmp_path / "A1.tsv.gz").write_bytes(gzip.compress(bytes(1 << 21)))
    with pytest.raises(FormatError, match="unpacks to over 1,048,576 bytes"):
        read_packed(tmp_path / "A1.tsv.gz")


def test_arrays_of_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="is damaged or no npy file"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("number", ["9" * 20, "-" + "9" * 20])
def test_a_number_that_no_field_of_ours_can_hold_is_refused(number):
    with pytest.raises(FormatError, match=r"has 2. digits"):
        parse_json(json.dumps({"x": 1}).replace("1", number), "a.json")
    assert parse_json("-9223372036854775808", "a.json") == -(2**63)


@pytest.mark.parametrize("place", ["9" * 5000, "9" * 400, "1e9", "-1", "%00"])
def test_no_number_in_an_address_is_too_large_for_the_viewer(place):
    browser = TestClient(create_app(scene(), TOKEN), base_url="http://127.0.0.1", cookies={COOKIE: TOKEN})
    for address in (f"/section/{place}", f"/section/0/values/{place}/0", f"/section/0/tile/0/{place}/0"):
        assert browser.get(address).status_code == 404


def test_a_name_with_a_null_character_is_told_with_its_section(tmp_path):
    seeds.st_flat(tmp_path)
    path = tmp_path / "M1.tsv"
    path.write_bytes(path.read_bytes().replace(b"\tG3", b"\tG\0003"))
    with pytest.raises(SchemaError, match=r"section M1: gene 'G\\x003' has a null character in its name"):
        TARGETS["st_flat"].use(tmp_path, tmp_path.parent / "out")


def test_a_prediction_whose_section_is_a_link_to_itself_is_shown_without_its_image(tmp_path):
    TARGETS["prediction"].build(tmp_path)
    section = tmp_path / "cohort/sections/s0.h5ad"
    section.unlink()
    section.symlink_to(section)
    assert "is not there any more" in read_scene(tmp_path / "P")[0].problem

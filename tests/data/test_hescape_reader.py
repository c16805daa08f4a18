"""HESCAPE's arrow layout, written here as its hub has it: counts, labels, places, crops, and what may be off."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hescribe import keys
from hescribe.data.folder import read_cohort
from hescribe.data.importing import import_cohort
from hescribe.data.readers.hescape import HescapeReader
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError

PITCH, CROP, MARGIN = 20, 32, 24  # pixels; a crop overlaps those of its neighbours
COLUMNS, ROWS = 6, 5
GENES = tuple(f"GENE{i}" for i in range(7))


def slide(seed):
    """A slide whose every place looks different, smooth enough to be told from noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (14, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((160, 140), Image.Resampling.BILINEAR))


def encode(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def broken_png():
    """A picture whose second part of several has no name: PIL raises a SyntaxError for it."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    first, *parts = encode(noise)["bytes"].split(b"IDAT")
    return first + b"IDAT" + parts[0] + b"\x8e\x84\xcd\xf8" + b"IDAT".join(parts[1:])


def decode(image):
    return np.asarray(Image.open(io.BytesIO(image["bytes"])))


def rows_of(name, seed, *, n_genes=7):
    pixels, rng = slide(seed), np.random.default_rng(seed)
    found = []
    for r in range(ROWS):
        for c in range(COLUMNS):
            x, y = MARGIN + PITCH * c, MARGIN + PITCH * r
            crop = pixels[y - CROP // 2 : y + CROP // 2, x - CROP // 2 : x + CROP // 2]
            counts = rng.integers(0, 9, n_genes)
            found.append({"name": name, "xy": (x, y), "gexp": counts, "image": encode(crop)})
    return found


def to_table(rows, *, names=("TENA", "TENB"), labelled=True):
    features = {
        "name": {"names": list(names), "_type": "ClassLabel"},
        "source": {"names": ["hest", "other"], "_type": "ClassLabel"},
        "tissue": {"names": ["breast", "lung"], "_type": "ClassLabel"},
    }
    table = pa.table({
        "name": pa.array([names.index(r["name"]) for r in rows], pa.int64()),
        "image": pa.array([r["image"] for r in rows], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "gexp": pa.array([[r["gexp"].tolist()] for r in rows], pa.list_(pa.list_(pa.uint16()))),
        "cell_coords": pa.array([[list(r["xy"])] for r in rows], pa.list_(pa.list_(pa.float32()))),
        "source": pa.array([names.index(r["name"]) % 2 for r in rows], pa.int64()),
        "tissue": pa.array([0] * len(rows), pa.int64()),
        "age": pa.array(["60"] * len(rows)),
    })  # fmt: skip
    known = {"info": {"features": features}} if labelled else {}
    return table.replace_schema_metadata({"huggingface": json.dumps(known)})


def write(path, table):
    path.parent.mkdir(exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=8)  # in batches, as the hub's library does
    return path


@pytest.fixture
def folder(tmp_path):
    """Two files, the rows of one section lying in both."""
    one, two = rows_of("TENA", 1), rows_of("TENB", 2)
    write(tmp_path / "D" / "data-00000-of-00002.arrow", to_table(one[:20]))
    write(tmp_path / "D" / "data-00001-of-00002.arrow", to_table(one[20:] + two))
    (tmp_path / "D" / "genes.txt").write_text("\n".join(GENES) + "\n")
    return tmp_path / "D"


def test_sections_have_their_rows_from_all_files_in_order(folder):
    one, two = HescapeReader().read(folder)
    assert (one.id, two.id) == ("TENA", "TENB")
    assert one.counts.shape == (30, 7)
    np.testing.assert_array_equal(one.counts.toarray(), np.stack([r["gexp"] for r in rows_of("TENA", 1)]))
    assert one.genes == GENES
    assert one.xy_px[7].tolist() == [MARGIN + PITCH, MARGIN + PITCH]  # the second row begins at 6
    assert one.array_xy[7].tolist() == [1, 1]
    assert (one.organ, one.organism, one.pitch_um, one.technology) == ("breast", "Homo sapiens", 55.0, "xenium")
    assert len(set(one.spots)) == 30


def test_a_panel_becomes_a_cohort_whose_image_is_the_slide_that_the_crops_were_cut_from(folder, tmp_path):
    import_cohort(folder, "hescape", tmp_path / "C")
    cohort = read_cohort(tmp_path / "C")
    section = cohort[1]
    assert section.card.mpp == pytest.approx(55 / PITCH)
    assert section.card.mpp_source == "spot pitch"
    np.testing.assert_allclose(section.xy_um[0], MARGIN * 55 / PITCH)
    begin, side = (MARGIN - CROP // 2) * 55 / PITCH, 100 * 55 / PITCH
    seen = section.image.read(begin, begin, (side, side), 55 / PITCH)
    np.testing.assert_array_equal(seen, slide(2)[8:108, 8:108])
    assert section.layer(keys.COUNTS).sum() == sum(r["gexp"].sum() for r in rows_of("TENB", 2))


def test_parquet_and_plain_arrow_files_read_alike(folder, tmp_path):
    expected = HescapeReader().read(folder)[0].counts.toarray()
    table = to_table(rows_of("TENA", 1))
    (tmp_path / "P").mkdir()
    pq.write_table(table, tmp_path / "P" / "train.parquet")
    (tmp_path / "F").mkdir()
    with pa.OSFile(str(tmp_path / "F" / "train.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    for other in ("P", "F"):
        (found,) = HescapeReader(genes=str(folder / "genes.txt")).read(tmp_path / other)
        np.testing.assert_array_equal(found.counts.toarray(), expected)


def test_files_without_crops_give_sections_without_image(folder):
    for path in folder.glob("*.arrow"):
        table = pa.ipc.open_stream(path.read_bytes()).read_all()
        write(path, table.drop_columns(["image"]))
    assert [s.image for s in HescapeReader().read(folder)] == [None, None]


def test_rows_of_one_source_alone_are_kept_as_the_published_loader_does(folder):
    assert [s.id for s in HescapeReader(source="other").read(folder)] == ["TENB"]
    with pytest.raises(InputError, match="and tissue 'bowel'; it has source hest, other; tissue breast"):
        HescapeReader(tissue="bowel").read(folder)


def test_a_section_of_a_published_panel_has_its_donor_and_scale(tmp_path):
    rows = rows_of("TENX99", 1, n_genes=280)
    write(tmp_path / "D" / "data.arrow", to_table(rows, names=("TENX99",)))
    (tmp_path / "genes.txt").write_text("\n".join(f"G{i:03d}" for i in range(280)))
    (section,) = HescapeReader(genes=str(tmp_path / "genes.txt")).read(tmp_path / "D")
    assert (section.donor, section.mpp) == ("patient_1", {"catalogue": 0.2125})


def test_another_panels_genes_are_refused(folder, tmp_path):
    write(tmp_path / "E" / "data.arrow", to_table(rows_of("TENX99", 1), names=("TENX99",)))
    with pytest.raises(SchemaError, match="TENX99 is of a panel of 280 genes, and 7 are named"):
        HescapeReader(genes=str(folder / "genes.txt")).read(tmp_path / "E")
    (folder / "genes.txt").write_text("\n".join(GENES[:6]))
    with pytest.raises(SchemaError, match="gexp has 7 numbers a row, and the panel has 6 genes"):
        HescapeReader().read(folder)


def test_genes_out_of_order_are_noted(folder):
    (folder / "genes.txt").write_text("\n".join(GENES[::-1]))
    assert any("not in alphabetical order" in n for n in HescapeReader().read(folder)[0].notes)


def test_swapped_axes_and_scaled_crops_are_seen_where_neighbours_overlap(tmp_path):
    rows = rows_of("TENA", 1)
    swapped = [{**r, "xy": r["xy"][::-1]} for r in rows]
    scaled = [{**r, "image": encode(np.kron(decode(r["image"]), np.ones((2, 2, 1), np.uint8)))} for r in rows]
    for i, wrong in enumerate((swapped, scaled)):
        write(tmp_path / f"W{i}" / "data.arrow", to_table(wrong))
        (tmp_path / f"W{i}" / "genes.txt").write_text("\n".join(GENES))
        with pytest.raises(SchemaError, match="crops of neighbouring spots differ by"):
            HescapeReader().read(tmp_path / f"W{i}")


def without(column):
    return lambda folder, rows: write(folder / "data-00000-of-00002.arrow", to_table(rows).drop_columns([column]))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (without("gexp"), SchemaError, "column 'gexp' is missing: it is no file of HESCAPE"),
        (without("cell_coords"), SchemaError, "column 'cell_coords' is missing"),
        (
            lambda folder, rows: write(folder / "data-00000-of-00002.arrow", to_table(rows, labelled=False)),
            SchemaError, "column 'name' holds numbers, and the file's metadata name 0 labels",
        ),
        (
            lambda folder, rows: (folder / "data-00000-of-00002.arrow").write_bytes(b"ARROW"),
            FormatError, "is damaged or no arrow file",
        ),
        (
            lambda folder, rows: write(
                folder / "data-00000-of-00002.arrow",
                to_table([{**r, "image": {"bytes": b"no image", "path": None}} for r in rows]),
            ),
            FormatError, "is no image",
        ),
        (
            lambda folder, rows: write(
                folder / "data-00000-of-00002.arrow",
                to_table([{**r, "image": {"bytes": broken_png(), "path": None}} for r in rows]),
            ),
            FormatError, "is no image; fetch the file again: broken PNG file",
        ),
        (lambda folder, rows: (folder / "genes.txt").unlink(), InputError, "does not name its genes; give --set"),
    ],
)  # fmt: skip
def test_what_is_off_is_named(damage, error, message, folder):
    damage(folder, rows_of("TENA", 1))
    with pytest.raises(error, match=message):
        HescapeReader().read(folder)


def test_a_folder_without_files_and_a_cut_one_are_refused(folder, tmp_path):
    with pytest.raises(DataAccessError, match="holds no arrow or parquet file"):
        HescapeReader().read(tmp_path / "nothing")
    file = folder / "data-00000-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(FormatError, match="is damaged"):
        HescapeReader().read(folder)

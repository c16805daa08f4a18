"""QuPath's GeoJSON: spots come out where they lie, regions name the spots inside them, and damage is told."""

import json

import anndata
import numpy as np
import pytest
import tifffile
from anndata import AnnData
from typer.testing import CliRunner

from hescribe import keys
from hescribe.cli.app import app
from hescribe.data.folder import read_cohort, write_cohort
from hescribe.data.geojson import Region, label_spots, read_regions, with_regions, write_geojson
from hescribe.data.heatmap import write_heatmap
from hescribe.errors import FormatError, InputError, PanelError
from hescribe.testing.cohorts import colour_section, raw_colour_cohort


def square(x0, y0, side, name=None):
    ring = [[x0, y0], [x0 + side, y0], [x0 + side, y0 + side], [x0, y0 + side], [x0, y0]]
    facts = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": facts}


@pytest.fixture
def write(tmp_path):
    def write(*features):
        path = tmp_path / "regions.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
        return path

    return write


def test_a_spot_takes_the_smallest_region_it_lies_in(write):
    regions = read_regions(write(square(40, 40, 20, "gland"), square(0, 0, 100, "tumour")))
    xy = np.array([[50.0, 50.0], [10.0, 90.0], [150.0, 50.0]])
    assert label_spots(xy, regions).tolist() == ["gland", "tumour", ""]


def test_a_hole_and_the_second_part_of_a_region_count(write):
    outer, hole, far = (square(*s)["geometry"]["coordinates"][0] for s in ((0, 0, 100), (40, 40, 20), (200, 0, 50)))
    parts = {"type": "MultiPolygon", "coordinates": [[outer, hole], [far]]}
    (region,) = read_regions(write({"type": "Feature", "geometry": parts, "properties": {"name": "fat"}}))
    assert region.name == "fat"
    assert region.holds(np.array([[50.0, 50.0], [20.0, 50.0], [225.0, 25.0]])).tolist() == [False, True, True]


def test_x_and_y_are_not_swapped(write):
    (wide,) = read_regions(write({**square(0, 0, 1), "geometry": {
        "type": "Polygon", "coordinates": [[[0, 0], [300, 0], [300, 10], [0, 10], [0, 0]]],
    }}))  # fmt: skip
    assert wide.holds(np.array([[200.0, 5.0], [5.0, 200.0]])).tolist() == [True, False]


def test_a_region_of_a_million_sides_is_no_other_than_its_polygon():
    angle = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    circle = Region("c", (100 * np.column_stack([np.cos(angle), np.sin(angle)]),))
    xy = np.random.default_rng(0).uniform(-120, 120, (2000, 2))
    radius = np.hypot(*xy.T)
    clear = np.abs(radius - 100) > 0.01
    assert (circle.holds(xy) == (radius < 100))[clear].all()


def test_points_and_lines_are_passed_over_and_regions_without_a_class_are_unnamed(write):
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}}
    nowhere = {"type": "Feature", "geometry": None, "properties": {}}
    several = {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []}, "properties": {}}
    assert [r.name for r in read_regions(write(point, nowhere, several, square(0, 0, 1)))] == ["unnamed"]
    with pytest.raises(FormatError, match="holds no polygon"):
        read_regions(write(point))


@pytest.mark.parametrize(
    "content",
    ["", "[", "3", '{"features": 3}', '{"features": [{}]}', '{"features": [[1]]}',
     '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]}',
     '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [2, 2]]]}}]}',
     '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [2, 2]]]}}]}'],
)  # fmt: skip
def test_damage_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(FormatError, match=r"a\.geojson (is no GeoJSON|holds a feature|holds no polygon)"):
        read_regions(tmp_path / "a.geojson")


def test_regions_of_another_slide_are_refused(write):
    with pytest.raises(InputError, match="no region holds a spot"):
        with_regions(colour_section(0, "D"), write(square(10_000, 10_000, 5, "far")))


def test_the_command_labels_one_section_of_a_cohort(tmp_path, write):
    write_cohort(raw_colour_cohort(2, 1), tmp_path / "cohort")
    regions = write(square(0, 0, 180, "left"))  # centres at 25, 75, 125 and 175 px in x and y
    done = CliRunner().invoke(
        app,
        ["data", "label", str(tmp_path / "cohort"), "--section", "s1", "--regions", str(regions),
         "--out", str(tmp_path / "labelled"), "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["regions"] == {"left": 16}
    first, second = read_cohort(tmp_path / "labelled")
    assert keys.REGION not in first.table.obs
    assert second.table.obs[keys.REGION].notna().sum() == 16
    wrong = CliRunner().invoke(
        app, ["data", "label", str(tmp_path / "cohort"), "--section", "x", "--regions", str(regions), "--out", "y"]
    )
    assert "has no section 'x'" in wrong.stderr


def predicted(n_genes=2):
    section = colour_section(0, "D")
    values = np.arange(section.n_spots * n_genes, dtype=np.float32).reshape(-1, n_genes)
    table = AnnData(obs=section.table.obs[[]].copy(), layers={keys.PREDICTED: values}, obsm=dict(section.table.obsm))
    table.var_names = [f"G{i}" for i in range(n_genes)]
    return table


def test_predicted_spots_are_detections_at_their_pixels(tmp_path):
    table = predicted()
    write_geojson(table, tmp_path / "s.geojson", ["G1"], diameter_px=40.0)
    features = json.loads((tmp_path / "s.geojson").read_text())["features"]
    assert len(features) == 49
    second = features[1]
    ring = np.array(second["geometry"]["coordinates"][0])
    assert ring[0].tolist() == ring[-1].tolist()
    assert ring[:-1].mean(axis=0) == pytest.approx(table.obsm[keys.SPATIAL][1], abs=0.01)
    assert np.ptp(ring[:, 0]) == pytest.approx(40.0, abs=0.01)
    assert second["properties"]["objectType"] == "detection"
    assert second["properties"]["measurements"] == {"G1": 3.0}
    with pytest.raises(PanelError, match="has no NO"):
        write_geojson(table, tmp_path / "t.geojson", ["NO"], diameter_px=1.0)


def test_the_heat_map_shows_each_spot_at_its_place_and_scale(tmp_path):
    table = predicted()[:48].copy()  # the last spot of the square is missing
    write_heatmap(table, tmp_path / "s.ome.tif", ["G1", "G0"], spacing_um=200.0)
    with tifffile.TiffFile(tmp_path / "s.ome.tif") as tiff:
        values, pixels = tiff.asarray(), tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels["PhysicalSizeX"] == pixels["PhysicalSizeY"] == 50.0
    assert [c["Name"] for c in pixels["Channel"]] == ["G1", "G0"]
    for spot in (0, 1, 7, 40):
        column, row = (table.obsm[keys.SPATIAL_UM][spot] / 50.0).astype(int)
        assert values[:, row, column].tolist() == table.layers[keys.PREDICTED][spot, ::-1].tolist()
    assert np.isnan(values[:, 26, 26]).all()  # where the missing spot was
    with pytest.raises(PanelError, match="has no NO"):
        write_heatmap(table, tmp_path / "t.ome.tif", ["NO"], spacing_um=200.0)


def test_a_value_that_is_missing_is_no_measurement(tmp_path):
    table = predicted()
    table.layers[keys.PREDICTED][0, 1] = np.nan
    write_geojson(table, tmp_path / "s.geojson", ["G0", "G1"], diameter_px=40.0)
    first = json.loads((tmp_path / "s.geojson").read_text())["features"][0]
    assert first["properties"]["measurements"] == {"G0": 0.0}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda t: t[:0].copy(), "holds no spots"),
        (lambda t: setattr(t, "var_names", ["G0", "G0"]) or t, "holds gene G0 twice"),
        (lambda t: t.obsm[keys.SPATIAL_UM].__setitem__((0, 0), np.nan) or t, "does not say where each spot lies"),
        (lambda t: t.layers.pop(keys.PREDICTED) is None or t, "holds no predicted layer"),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_a_damaged_prediction_is_refused_before_anything_is_written(tmp_path, damage, told):
    (tmp_path / "p").mkdir()
    damage(predicted()).write_h5ad(tmp_path / "p" / "s0.h5ad")
    done = CliRunner().invoke(app, ["data", "qupath", str(tmp_path / "p"), "--out", str(tmp_path / "out")])
    assert (done.exit_code, told in done.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


def test_what_is_written_can_be_read_as_regions(tmp_path):
    table = predicted()
    write_geojson(table, tmp_path / "s.geojson", ["G0"], diameter_px=40.0)
    labels = label_spots(np.asarray(table.obsm[keys.SPATIAL]), read_regions(tmp_path / "s.geojson"))
    assert labels.tolist() == list(table.obs_names)


def test_the_command_writes_the_best_genes_of_every_section(tmp_path):
    table = predicted(30)
    table.var["pearson"] = np.arange(30.0)
    table.var["trust"] = "weak"
    (tmp_path / "p").mkdir()
    table.write_h5ad(tmp_path / "p" / "s0.h5ad")
    done = CliRunner().invoke(app, ["data", "qupath", str(tmp_path / "p"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    feature = json.loads((tmp_path / "out" / "s0.geojson").read_text())["features"][0]
    assert list(feature["properties"]["measurements"]) == [f"G{i}" for i in range(29, 9, -1)]
    anndata.AnnData(np.zeros((2, 1))).write_h5ad(tmp_path / "p" / "other.h5ad")
    assert "holds no predicted layer" in CliRunner().invoke(
        app, ["data", "qupath", str(tmp_path / "p"), "--out", str(tmp_path / "again")]
    ).stderr  # fmt: skip


@pytest.mark.parametrize("coordinates", [[], [[]]], ids=["no ring", "a ring without corners"])
def test_an_empty_polygon_is_named_as_no_region(coordinates, tmp_path):
    path = tmp_path / "empty.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": coordinates}}))
    with pytest.raises(FormatError, match=r"empty\.geojson holds a feature that is no region"):
        read_regions(path)

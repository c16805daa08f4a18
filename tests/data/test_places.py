"""Places on a slide are read from CSV and GeoJSON, and bad files are named."""

import json

import numpy as np
import pytest

from hescribe.data.places import read_places
from hescribe.errors import FormatError, InputError


def geojson(path, *geometries, ids=None):
    ids = ids or [None] * len(geometries)
    features = [
        {"type": "Feature", "id": i, "geometry": g, "properties": {}} for i, g in zip(ids, geometries, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def polygon(*corners):
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


def test_a_csv_is_in_um_or_in_pixels(tmp_path):
    (tmp_path / "um.csv").write_text("cell_id,x_um,y_um\n7,10,20.5\n8,30,40\n")
    names, xy = read_places(tmp_path / "um.csv", 0.25)
    assert names == ["7", "8"]
    np.testing.assert_array_equal(xy, [[10.0, 20.5], [30.0, 40.0]])
    (tmp_path / "px.csv").write_text("x_px;y_px\n40;82\n")
    names, xy = read_places(tmp_path / "px.csv", 0.25)
    assert names == ["spot0"]
    np.testing.assert_array_equal(xy, [[10.0, 20.5]])


def test_a_nucleus_lies_at_the_centroid_of_its_area(tmp_path):
    """A right angle of legs 6 and 3 has its centroid at a third of both, however many corners lie on one side."""
    triangle = polygon([100, 100], [102, 100], [104, 100], [106, 100], [100, 103])
    parts = {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 0]]], triangle["coordinates"]]}
    point = {"type": "Point", "coordinates": [8, 4]}
    path = geojson(tmp_path / "n.geojson", triangle, parts, point, ids=["n1", None, "n3"])
    names, xy = read_places(path, 0.5)
    assert names == ["n1", "cell1", "n3"]
    np.testing.assert_allclose(xy, [[51.0, 50.5], [51.0, 50.5], [4.0, 2.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "give x_um and y_um, or x_px and y_px"),
        ("x_um,y_um,x_px,y_px\n1,2,3,4\n", "give x_um and y_um, or x_px and y_px"),
        ("x_um,y_um\n1,here\n", "a coordinate that is no number"),
        ("cell,x_um,y_um\na,1,\n", "a has no coordinates"),
        ("", "no readable CSV"),
    ],
)
def test_a_csv_that_says_no_places_is_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_places(tmp_path / "a.csv", 0.5)


def test_a_place_named_twice_and_none_at_all_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("cell,x_um,y_um\na,1,2\na,3,4\n")
    with pytest.raises(InputError, match="names a twice"):
        read_places(tmp_path / "a.csv", 0.5)
    (tmp_path / "b.csv").write_text("x_um,y_um\n")
    with pytest.raises(InputError, match="names no place"):
        read_places(tmp_path / "b.csv", 0.5)
    with pytest.raises(InputError, match="names no place"):
        read_places(geojson(tmp_path / "c.geojson"), 0.5)


@pytest.mark.parametrize("text", ["{", "[1]", '{"features": [{"geometry": {"type": "Polygon", "coordinates": []}}]}'])
def test_what_is_no_geojson_is_refused(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises((FormatError, InputError)):
        read_places(tmp_path / "a.geojson", 0.5)

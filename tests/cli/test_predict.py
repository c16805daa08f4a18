"""``hescribe predict`` on slides: grids and places, a page, SpatialData, and runs that were killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import anndata
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from hescribe import keys
from hescribe.bench.fitting import fit_model
from hescribe.bench.ladder import create_model
from hescribe.bench.model_folder import FittedModel, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.cli.app import app
from hescribe.data.readers.spatialdata import SpatialDataReader
from hescribe.data.spatialdata_predicted import read_predicted_store
from hescribe.errors import SchemaError
from hescribe.testing.cohorts import raw_colour_cohort

NAME = "Größe 1 'a' \"b\" <b>"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of a model, one of whose genes has a name that is markup."""
    fitted = fit_model(create_model("color_ridge"), raw_colour_cohort(), read_protocol("donor-v1"))
    genes = ("<script>alert(1)</script>", *fitted.info.genes[1:])
    scores = dict(zip(genes, fitted.info.scores.values(), strict=True))
    predictor = fitted.predictor.with_params().set_fitted({**fitted.predictor.get_fitted(), "genes_": genes})
    info = replace(fitted.info, genes=genes, scores=scores)
    folder = tmp_path_factory.mktemp("model") / "M"
    write_model(folder, FittedModel(predictor, info, fitted.interval, fitted.looks))
    return folder


def write_slide(path, side=1200, mpp=2.0):
    """Write a slide with a square of tissue whose colour changes from place to place."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(243, 2, (side, side, 3))
    inside = slice(side // 6, -side // 6)
    shade = np.linspace(0.75, 1.15, side)[inside]
    pixels[inside, inside] = np.array((205, 140, 180)) * shade[:, None, None] + rng.normal(0, 6, (len(shade), 1, 3))
    tifffile.imwrite(
        path, pixels.clip(0, 255).astype(np.uint8), photometric="rgb", tile=(256, 256), compression="zlib",
        resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / f"{NAME}.tif")


def invoke(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def given(*words):
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def told(*words):
    result = invoke(*words)
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_slide_of_any_name_becomes_a_table_a_map_and_a_page(model, slide, tmp_path):
    done = given("predict", model, slide, "--out", tmp_path / "P", "--pitch-um", "100")
    assert done["sections"] == [{"section": NAME, "n_spots": done["sections"][0]["n_spots"], "n_genes": 12}]
    table = anndata.read_h5ad(tmp_path / "P" / f"{NAME}.h5ad")
    assert table.n_obs == pytest.approx(16**2, rel=0.15)
    assert set(table.obs[keys.FLAG]) <= {"", "blurred", "pen", "fold or ink", "little tissue"}
    page = (tmp_path / "P/report.html").read_text()
    assert done["report"] == str(tmp_path / "P/report.html")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Größe 1 &#39;a&#39; &#34;b&#34; &lt;b&gt;.tif" in page
    for needed in ("Which genes to trust", "Where not to trust it", "Licences, and what to cite", 'alt="Section'):
        assert needed in page


def test_the_page_is_readable_on_a_phone_and_by_those_who_see_no_pictures(model, slide, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    given("predict", model, slide, "--out", tmp_path / "P", "--pitch-um", "200")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 420, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "P/report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        assert page.evaluate("[...document.images].every(i => i.alt && i.complete && i.naturalWidth)")
        assert "<script>alert(1)</script>" in page.locator("#gene-table tbody th").all_text_contents()
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        browser.close()


def test_spots_may_be_named_and_cells_given_as_polygons(model, slide, tmp_path):
    (tmp_path / "spots.csv").write_text("spot,x_um,y_um\na,1000,1000\nb,1200,1010\n")
    given("predict", model, slide, "--out", tmp_path / "P", "--at", tmp_path / "spots.csv")
    by_spot = anndata.read_h5ad(tmp_path / "P" / f"{NAME}.h5ad")
    corners = [[[2 * i + dx, 2 * j + dy] for dx, dy in ((-3, -3), (3, -3), (3, 3), (-3, 3), (-3, -3))]
               for i, j in ((250, 250), (300, 252.5), (300, 255))]  # fmt: skip
    features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [c]}} for c in corners]
    (tmp_path / "nuclei.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    done = given("predict", model, slide, "--out", tmp_path / "C", "--at", tmp_path / "nuclei.geojson")
    by_cell = anndata.read_h5ad(tmp_path / "C" / f"{NAME}.h5ad")
    assert list(by_cell.obs_names) == ["cell0", "cell1", "cell2"]
    np.testing.assert_allclose(by_cell.obsm[keys.SPATIAL_UM][:2], by_spot.obsm[keys.SPATIAL_UM])
    np.testing.assert_allclose(by_cell.layers[keys.PREDICTED][0], by_spot.layers[keys.PREDICTED][0], rtol=1e-5)
    assert any("spacing of the training" in d for d in done["doubts"][NAME])


def test_what_cannot_be_placed_is_told(model, slide, tmp_path):
    (tmp_path / "far.csv").write_text("x_um,y_um\n99000,5\n")
    words = ("predict", model, slide, "--out", tmp_path / "P")
    assert "1 of 1 places are outside of" in told(*words, "--at", tmp_path / "far.csv")
    assert "give one of them" in told(*words, "--at", tmp_path / "far.csv", "--pitch-um", "100")
    assert "at least 1 um, got 0" in told(*words, "--pitch-um", "0")
    assert "nothing.csv" in told(*words, "--at", tmp_path / "nothing.csv")
    blank = np.full((400, 400, 3), 244, np.uint8)
    tifffile.imwrite(tmp_path / "blank.tif", blank, photometric="rgb", tile=(64, 64))
    assert "no tissue found" in told("predict", model, tmp_path / "blank.tif", "--mpp", "2", "--out", tmp_path / "P")
    assert not (tmp_path / "P").exists()


def test_a_prediction_is_a_spatialdata_store_and_comes_back_as_it_was(model, slide, tmp_path):
    pytest.importorskip("spatialdata")
    given("predict", model, slide, "--out", tmp_path / "P", "--spatialdata")
    written = anndata.read_h5ad(tmp_path / "P" / f"{NAME}.h5ad")
    store = next((tmp_path / "P").glob("*.zarr"))
    again = read_predicted_store(store)
    np.testing.assert_array_equal(again.layers[keys.PREDICTED], written.layers[keys.PREDICTED])
    np.testing.assert_array_equal(again.layers[keys.UPPER], written.layers[keys.UPPER])
    np.testing.assert_array_equal(again.obsm[keys.SPATIAL_UM], written.obsm[keys.SPATIAL_UM])
    np.testing.assert_array_equal(again.obs[keys.OOD], written.obs[keys.OOD])
    assert list(again.obs_names) == list(written.obs_names)
    assert list(again.var_names) == list(written.var_names)
    assert again.uns["hescribe"]["model"] == written.uns["hescribe"]["model"]
    with pytest.raises(SchemaError, match="no raw counts"):  # what is predicted never passes for measured
        SpatialDataReader().read(store)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_identical_result(model, tmp_path):
    slide = write_slide(tmp_path / "slide.tif", side=3000)
    program = (
        "import time; from hescribe.encode.color import Color; from hescribe.cli.app import main; whole = Color.encode;"
        "Color.encode = lambda self, p: (time.sleep(0.15), whole(self, p))[1]; main()"
    )
    words = ["predict", str(model), str(slide), "--pitch-um", "80", "--out"]
    environment = {**os.environ, "HESCRIBE_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen([sys.executable, "-c", program, *words, str(tmp_path / "P")], env=environment) as run:
        end = time.monotonic() + 120
        while len(list((tmp_path / "cache").rglob("*.npz"))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    blocks = list((tmp_path / "cache").rglob("*.npz"))
    assert len(blocks) >= 2
    assert not (tmp_path / "P").exists()
    before = {b.name: b.stat().st_mtime_ns for b in blocks}
    subprocess.run([sys.executable, "-m", "hescribe.cli", *words, str(tmp_path / "P")], env=environment, check=True)
    environment["HESCRIBE_CACHE"] = str(tmp_path / "fresh")
    subprocess.run([sys.executable, "-m", "hescribe.cli", *words, str(tmp_path / "Q")], env=environment, check=True)
    resumed, whole = (anndata.read_h5ad(tmp_path / folder / "slide.h5ad") for folder in "PQ")
    assert len(before) < -(-resumed.n_obs // 512)
    np.testing.assert_array_equal(resumed.layers[keys.PREDICTED], whole.layers[keys.PREDICTED])
    np.testing.assert_array_equal(resumed.obs[keys.OOD], whole.obs[keys.OOD])
    assert (tmp_path / "P/report.html").read_text() == (tmp_path / "Q/report.html").read_text()
    assert not list((tmp_path / "cache").rglob("*.npz"))

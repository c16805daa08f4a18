"""The page in a real browser: what is drawn, what the address holds, what is saved. Needs Chromium."""

import shutil
import socket
import threading
import time

import numpy as np
import pandas as pd
import pytest
import uvicorn
from anndata import AnnData

from hescribe.data.h5ad import write_h5ad
from hescribe.view.page import write_page
from hescribe.view.scene import read_scene
from hescribe.view.server import create_app

pytestmark = pytest.mark.slow
TOKEN = "the-token"  # noqa: S105 - of this test
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
READY_MS = 60_000


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("browser tests need Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(prediction):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(read_scene(prediction), TOKEN), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(chromium):
    page = chromium.new_page(viewport={"width": 1200, "height": 700})
    page.problems = []
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    yield page
    page.close()


def open_page(page, address):
    page.goto(address, timeout=READY_MS)
    page.wait_for_function("window.HEscribe && HEscribe.ready", timeout=READY_MS)


def after_painting(page, act):
    n = page.evaluate("HEscribe.painted")
    act()
    page.wait_for_function(f"HEscribe.painted > {n}", timeout=READY_MS)


def test_a_gene_is_found_shown_and_kept_in_the_address(page, address):
    open_page(page, f"{address}/?token={TOKEN}")
    assert page.inner_text("#left-title") == "GENE1, predicted"
    assert page.inner_text("#right-title") == "GENE1, measured"
    after_painting(page, lambda: page.fill("#gene", "GENE2"))
    assert "do not use" in page.inner_text("#said")
    assert "the slide is blurred" in page.inner_text("#said")
    after_painting(page, lambda: page.select_option("#right", "domain: region"))
    assert page.inner_text("#right-key").split() == ["stroma", "tumour"]
    assert "gene=GENE2" in page.url
    again = page.url
    page.goto("about:blank")
    open_page(page, again)
    assert (page.inner_text("#left-title"), page.inner_text("#right-title")) == ("GENE2, predicted", "domain: region")
    assert page.problems == []


def test_a_gene_named_like_a_script_is_only_a_name(page, address):
    open_page(page, f"{address}/?token={TOKEN}")
    after_painting(page, lambda: page.fill("#gene", "<script>alert(1)</script>"))
    assert page.inner_text("#left-title") == "<script>alert(1)</script>, predicted"
    assert page.evaluate("document.querySelectorAll('h2 script').length") == 0


def test_spots_and_the_picture_can_be_saved(page, address, tmp_path):
    open_page(page, f"{address}/?token={TOKEN}")
    with page.expect_download() as saved:
        page.click("#table")
    saved.value.save_as(tmp_path / "spots.csv")
    lines = (tmp_path / "spots.csv").read_text().splitlines()
    assert len(lines) == 50
    assert lines[1].split(",")[:4] == ['"0x0"', "100.00", "100.00", "1.00000"]
    with page.expect_download() as saved:
        page.click("#picture")
    saved.value.save_as(tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes()[:4] == b"\x89PNG"


def test_many_spots_are_one_picture_that_knows_its_spots(page, tmp_path):
    side = 150
    xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 20.0 + 10
    values = np.arange(side * side, dtype=np.float32)[:, None]
    names = [f"n{i}" for i in range(side * side)]
    table = AnnData(
        obs=pd.DataFrame(index=names), var=pd.DataFrame({"trust": "predictable"}, index=["G"]),
        obsm={"spatial_um": xy}, layers={"predicted": values}, uns={"hescribe": {}},
    )  # fmt: skip
    write_h5ad(table, tmp_path / "p" / "many.h5ad")
    write_page(read_scene(tmp_path / "p"), tmp_path / "map.html")
    open_page(page, (tmp_path / "map.html").as_uri())
    box = page.locator("#left-plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] / 2)
    page.wait_for_function("document.getElementById('spot').textContent !== ''", timeout=READY_MS)
    name, value = page.inner_text("#spot").removeprefix("spot n").split(" ")[0], page.inner_text("#spot")
    assert f"G, predicted: {int(name)}.000" in value
    assert page.problems == []


def test_the_exported_page_works_without_a_server(page, prediction, tmp_path):
    write_page(read_scene(prediction), tmp_path / "map.html")
    open_page(page, (tmp_path / "map.html").as_uri())
    after_painting(page, lambda: page.fill("#gene", "GENE0"))
    assert page.inner_text("#left-title") == "GENE0, predicted"
    assert page.problems == []

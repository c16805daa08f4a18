"""The server lets nobody in without its token, reads nothing but its scene, and answers with the right numbers."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.view.conftest import EVIL

from hescribe.errors import InputError
from hescribe.view.page import write_page
from hescribe.view.scene import read_scene
from hescribe.view.server import COOKIE, create_app

TOKEN = "the-token"  # noqa: S105 - of this test


@pytest.fixture
def scene(prediction):
    return read_scene(prediction)


@pytest.fixture
def stranger(scene):
    return TestClient(create_app(scene, TOKEN), base_url="http://127.0.0.1")


@pytest.fixture
def browser(stranger):
    stranger.cookies.set(COOKIE, TOKEN)
    return stranger


def floats(answer):
    return np.frombuffer(answer.content, "<f4")


def test_the_token_is_swapped_for_a_cookie_that_scripts_cannot_read(stranger):
    answer = stranger.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert all(word in answer.headers["set-cookie"] for word in ("HttpOnly", "SameSite=strict"))


@pytest.mark.parametrize("address", ["/", "/section/0", "/section/0/tile/0/0/0", "/script/viewer.js", "/?token=wrong"])
def test_nobody_is_answered_without_the_token(stranger, address):
    answer = stranger.get(address)
    assert answer.status_code == 403
    assert "hescribe" not in answer.text.replace("hescribe view", "")


def test_a_name_that_was_bound_to_this_machine_is_refused(browser):
    assert browser.get("/section/0", headers={"Host": "evil.example"}).status_code == 400


def test_other_sites_may_neither_frame_nor_read_it(browser):
    headers = browser.get("/").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "address",
    [
        "/script/..%2f..%2fscene.py", "/script/scene.py", "/section/..%2f..", "/section/9", "/section/-1",
        "/section/0/values/0/99", "/section/0/values/99/0", "/section/0/tile/9/0/0", "/section/0/domain/7",
        "/etc/passwd", "//etc/passwd", "/section/0/tile/0/0/..%2f..%2f",
    ],
)  # fmt: skip
def test_nothing_but_the_scene_can_be_asked_for(browser, address):
    answer = browser.get(address)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_values_are_those_of_the_gene_at_that_place_of_the_list(browser):
    about = browser.get("/section/0").json()
    gene, layer = about["genes"].index("GENE2"), about["layers"].index("predicted")
    assert np.allclose(floats(browser.get(f"/section/0/values/{gene}/{layer}")), 2 + np.arange(49) / 100)
    assert about["trust"][gene] == "do not use"
    assert about["notes"] == ["the slide is blurred"]


def test_spots_come_as_x_then_y_then_novelty(browser):
    x, y, novelty = floats(browser.get("/section/0/spots")).reshape(3, -1)
    assert (x[1], y[1], x[7], y[7]) == (300.0, 100.0, 100.0, 300.0)  # seven spots a row, 200 um apart
    assert novelty[0] == pytest.approx(0.99)
    assert browser.get("/section/0/names").json()[1] == "1x0"


def test_names_are_data_and_never_markup(browser, scene, tmp_path):
    assert EVIL in browser.get("/section/0").json()["genes"]
    assert EVIL not in browser.get("/").text
    write_page(scene, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert EVIL not in page
    held = page.split('id="embedded">')[1].split("</script>")[0]
    assert EVIL in json.loads(held)[0]["genes"]


def test_too_much_for_one_page_is_refused(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("hescribe.view.page.EXPORT_VALUES", 100)
    with pytest.raises(InputError, match="too many for one page"):
        write_page(scene, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()

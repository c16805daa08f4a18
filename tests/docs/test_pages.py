"""Links lead somewhere, examples of files are valid, and pictures are small."""

import re
import tomllib
from pathlib import Path

import pytest

from hescribe.bench.ladder import CONTROLS, RUNGS
from hescribe.bench.study import Study, read_study
from hescribe.data.manifest import Manifest
from hescribe.data.toml_file import read_toml
from hescribe.encode.hub_model import HubModel, hub_models
from hescribe.predict.external import ToolFacts

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page):
    """Return the anchors of a page's headings, as hosts of Markdown make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def toml_block(page, name):
    """Return the TOML example of a page that begins with the name of its file."""
    return re.search(rf"^```toml\n(# {name}\n.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_a_page_lead_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert f"({page.relative_to(ROOT).as_posix()})" in readme, page.name


def test_pictures_are_small():
    for picture in (ROOT / "docs/img").iterdir():
        assert picture.stat().st_size < 300_000, picture.name


def test_the_example_of_an_import_manifest_is_valid(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text(toml_block("docs/import.md", "manifest.toml"))
    manifest = read_toml(path, Manifest)
    assert manifest.donor_of("A2") == "patient1"
    assert manifest.donor_of("B1") == "patient3"


def test_the_example_of_a_study_is_valid(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(toml_block("docs/benchmark.md", "study.toml"))
    study = read_study(path)
    assert isinstance(study, Study)
    assert set(study.models) <= {*RUNGS, *CONTROLS}


def test_the_example_of_another_tools_facts_is_valid(tmp_path):
    path = tmp_path / "predictions.toml"
    path.write_text(toml_block("docs/other-tools.md", "predictions.toml"))
    assert read_toml(path, ToolFacts).train_donors_of["A1"] == ("B", "C")


def test_the_example_of_an_entry_point_names_our_group():
    entry = tomllib.loads(toml_block("docs/add-a-method.md", "pyproject.toml"))
    assert entry["project"]["entry-points"] == {"hescribe.predict": {"darkness": "darkness"}}


def test_the_table_of_hub_models_says_what_their_cards_say():
    text = (ROOT / "docs/encoders.md").read_text()
    for name in hub_models():
        card = HubModel(model=name).card
        gated = "yes" if card.gated else "no"
        assert f"| `{name}` | {card.n_dims} | {card.px} | {card.fov_um[0]:.0f} um | {card.licence} | {gated} |" in text


def test_the_benchmark_page_describes_every_rung_and_control():
    text = (ROOT / "docs/benchmark.md").read_text()
    for name in (*RUNGS, *CONTROLS):
        assert f"`{name}`" in text, name


def test_the_quickstart_describes_the_demo_as_it_is():
    """The demo says how many donors it makes; the page repeats it, and its pictures and numbers come from there."""
    number = re.search(r"synthetic cohort: (\d+) donors", (ROOT / "src/hescribe/cli/demo.py").read_text())[1]
    words = {"5": "Five", "6": "Six", "7": "Seven", "8": "Eight"}
    assert f"{words[number]} synthetic donors" in (ROOT / "docs/quickstart.md").read_text(), "run the demo and update"

"""Run the examples of the documentation and the docstrings as tests."""

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


@pytest.fixture
def page_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Run a block of a page in a folder and with a feature cache that only the blocks of its page share."""
    folder = tmp_path_factory.getbasetemp() / "pages" / request.node.path.stem
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HESCRIBE_CACHE", str(folder / "cache"))
    return folder


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"], fixtures=["page_folder"]
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the blocks of a page in their order: later ones use names of earlier ones."""
    places = [i for i, item in enumerate(items) if item.path.suffix == ".md"]
    blocks = sorted((items[i] for i in places), key=lambda item: (item.path, item.example.line))  # type: ignore[attr-defined]
    for i, block in zip(places, blocks, strict=True):
        items[i] = block

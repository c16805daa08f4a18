"""Run the examples of the documentation and the docstrings as tests, and the commands of the tutorials."""

import re
import shlex
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

NEAR = 0.01  # numbers of a page and of a run: another processor rounds otherwise


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


def run_commands(example: Example) -> str | None:
    """Run the commands of a block of a tutorial, and look for each line under a command in what it prints."""
    if Path(example.path).parent.name != "tutorials":
        return None  # other pages name commands for any data: tests/docs/test_console.py reads them
    from typer.testing import CliRunner  # noqa: PLC0415 - most runs collect no tutorial

    from hescribe.cli.app import app  # noqa: PLC0415

    for command, *expected in (part.splitlines() for part in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]):
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        if result.exit_code:
            return f"{command} ended with {result.exit_code}: {result.output}"
        said = result.output.splitlines()
        missing = [line for line in expected if line.strip() and not any(_is_same(line, s) for s in said)]
        if missing:
            return f"{command} does not print {missing[0]!r} but {result.output}"
    return None


def _is_same(expected: str, said: str) -> bool:
    """Return whether two lines are one but for spaces, the last digits of numbers, and what stands for ``...``."""
    ours, theirs = expected.split(), said.split()
    if "..." in ours:
        ours, theirs = ours[: ours.index("...")], theirs[: ours.index("...")]
    return len(ours) == len(theirs) and all(a == b or _is_near(a, b) for a, b in zip(ours, theirs, strict=True))


def _is_near(one: str, other: str) -> bool:
    numbers = [re.fullmatch(r"\[?(-?\d+\.\d+)[\],]*", text) for text in (one, other)]
    return all(numbers) and abs(float(numbers[0][1]) - float(numbers[1][1])) <= NEAR  # type: ignore[index]


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser(language="console", evaluator=run_commands), SkipParser()],
    patterns=["*.md"],
    fixtures=["page_folder"],
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the blocks of a page in their order: later ones use names of earlier ones."""
    places = [i for i, item in enumerate(items) if item.path.suffix == ".md"]
    blocks = sorted((items[i] for i in places), key=lambda item: (item.path, item.example.line))  # type: ignore[attr-defined]
    for i, block in zip(places, blocks, strict=True):
        items[i] = block

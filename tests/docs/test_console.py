"""What the pages say of the command line is what the program does."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hescribe.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMON = {"--json", "--quiet", "--debug"}
PRINTS_AND_STOPS = {"--help", "-h", "--version"}
WELL_KNOWN = ("hescribe", "make", "python3", ".venv/bin/hescribe", ".venv/bin/pip", ".venv/bin/python")


def console_lines():
    """Return (page, line) of every command in a console block."""
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    yield page.name, line.removeprefix("$ ")


def leaves(command, path="hescribe"):
    """Return every command of the program that is no group, by its words."""
    if not hasattr(command, "commands"):
        return {path: command}
    return {k: v for name, sub in command.commands.items() for k, v in leaves(sub, f"{path} {name}").items()}


COMMANDS = leaves(get_command(app))
LINES = sorted(set(console_lines()))
OURS = [(page, line) for page, line in LINES if "hescribe" in shlex.split(line)[0]]
CHEAP = sorted(
    {line for _, line in OURS if PRINTS_AND_STOPS & set(shlex.split(line)) or line.startswith("hescribe list ")}
)


def resolve(words):
    """Return the command that the words name, and the words left over."""
    for n in range(len(words), 0, -1):
        if (path := " ".join(["hescribe", *words[1:n]])) in COMMANDS:
            return COMMANDS[path], words[n:]
    raise AssertionError(f"{' '.join(words)} names no command; there are {', '.join(COMMANDS)}")


@pytest.mark.parametrize(("page", "line"), [(p, x) for p, x in OURS if x not in CHEAP])
def test_a_command_on_a_page_is_understood_by_the_program(page, line):
    command, rest = resolve(shlex.split(line))
    try:
        command.make_context("hescribe", rest)
    except Exception as error:
        raise AssertionError(f"{page}: {line}: {error}") from error


@pytest.mark.parametrize("line", CHEAP)
def test_a_command_that_only_prints_runs(line):
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_no_other_program_is_asked_for():
    for page, line in LINES:
        assert shlex.split(line)[0] in WELL_KNOWN, f"{page}: {line}"


def test_every_make_target_on_a_page_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z ]+)`", page.read_text()))
        assert set(" ".join(named).split()) <= targets, page.name


def cli_sections():
    """Return the text under each heading of cli.md that is a command."""
    parts = re.split(r"^## `(hescribe [^`]+)`\n", (ROOT / "docs/cli.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_cli_page_describes_every_command_and_no_other():
    assert set(cli_sections()) == set(COMMANDS)


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_cli_page_lists_every_argument_and_option_and_no_other(path):
    listed = set(re.findall(r"^- `([^`]+)`:", cli_sections()[path], re.MULTILINE))
    expected = set()
    for parameter in COMMANDS[path].params:
        is_option = parameter.param_type_name == "option"
        expected |= set(parameter.opts) if is_option else {parameter.metavar or parameter.name.upper()}
    assert listed == expected - COMMON


def test_cli_page_names_the_options_that_all_commands_share():
    head = (ROOT / "docs/cli.md").read_text().partition("\n## ")[0]
    assert all(f"`{option}`" in head for option in COMMON)
    for path, command in COMMANDS.items():
        assert {o for p in command.params for o in p.opts} >= COMMON, path


def test_a_command_that_does_not_exist_would_be_found():
    with pytest.raises(AssertionError, match="names no command"):
        resolve(["hescribe", "data", "burn"])
    command, rest = resolve(["hescribe", "bench", "run", "--no-such-option"])
    with pytest.raises(Exception, match="No such option"):
        command.make_context("hescribe", rest)

"""Rules of the house that a reader would otherwise have to remember."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hescribe
from hescribe import keys

SOURCE = Path(hescribe.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "scanpy", "lightning", "matplotlib", "anndata", "timm", "openvino", "pandas")


def tree(path):
    return ast.parse(path.read_text())


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
class TestEveryFile:
    def test_is_at_most_400_lines(self, path):
        assert len(path.read_text().splitlines()) <= 400

    def test_says_what_is_in_it(self, path):
        assert ast.get_docstring(tree(path))

    def test_functions_are_short(self, path):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert not body or node.end_lineno - body[0].lineno < 42, node.name

    def test_prints_only_on_the_command_line(self, path):
        if path.relative_to(SOURCE) != Path("cli/output.py"):
            calls = [
                n.func.id for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert "print" not in calls

    def test_names_no_key_literally(self, path):
        """Table access goes through keys.py: a typo in a literal would be a silent new column."""
        names = {v for k, v in vars(keys).items() if k.isupper()}
        if path.name == "keys.py":
            return
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Attribute):
                continue
            if node.value.attr in {"layers", "obsm", "obs"} and isinstance(node.slice, ast.Constant):
                assert node.slice.value not in names, f"line {node.lineno}"

    def test_only_the_loop_may_import_lightning(self, path):
        if path.relative_to(SOURCE) != Path("train/loop.py"):
            assert not re.search(r"^\s*(import|from) (lightning|pytorch_lightning)", path.read_text(), re.MULTILINE)


def test_importing_hescribe_imports_nothing_heavy():
    run(f"import sys, hescribe; heavy = [m for m in {HEAVY!r} if m in sys.modules]; assert not heavy, heavy")


def test_the_command_line_starts_without_heavy_imports():
    run(f"import sys, hescribe.cli.app; heavy = [m for m in {HEAVY!r} if m in sys.modules]; assert not heavy, heavy")


def test_listing_names_imports_no_component():
    run(
        "import sys; from hescribe.predict.base import predictors; assert 'ridge' in list(predictors); "
        "assert 'hescribe.predict.ridge' not in sys.modules; assert 'torch' not in sys.modules"
    )


def test_metrics_import_numpy_and_scipy_only():
    for path in (SOURCE / "metrics").glob("*.py"):
        for node in ast.walk(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                top = name.split(".")[0]
                assert top in {"numpy", "scipy", "hescribe"} or top in sys.stdlib_module_names, f"{path.name}: {name}"


def test_layers_are_kept():
    """The contract of pyproject.toml: arrows point down."""
    root = SOURCE.parents[1]
    if not (root / "pyproject.toml").exists():
        pytest.skip("the contract stands in the checkout, not in an installed package")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout

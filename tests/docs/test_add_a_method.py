"""The method of docs/add-a-method.md, installed as someone else's package, is a predictor like any other."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/add-a-method.md"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs Python where the package of the page is installed."""
    site = tmp_path / "site"
    facts = site / "darkness-1.0.dist-info"
    facts.mkdir(parents=True)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (site / "darkness.py").write_text(blocks[0])
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: darkness\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[hescribe.predict]\ndarkness = darkness\n")
    contract = next(b for b in blocks if "TestPredictorContract" in b)
    (tmp_path / "test_contract.py").write_text(contract)
    environment = os.environ | {"PYTHONPATH": str(site), "HESCRIBE_CACHE": str(tmp_path / "cache")}

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_is_listed_once_its_package_is_installed(run):
    listed = json.loads(run("hescribe.cli", "list", "predictors", "--json"))["predictors"]
    assert {"name": "darkness", "summary": "straight line in the darkness of the patch"}.items() <= next(
        row for row in listed if row["name"] == "darkness"
    ).items()


@pytest.mark.slow
def test_it_keeps_the_contract(run):
    said = run("pytest", "-q", "-p", "no:cacheprovider", "-k", "darkness", "test_contract.py")
    assert re.search(r"1\d passed", said), said

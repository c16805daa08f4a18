"""What is installed because of us, its licences, and the bill of materials."""

import json
import subprocess
import sys
from email.message import Message
from importlib.metadata import version
from pathlib import Path

import pytest

from hescribe.dependencies import find_dependencies, licence_of

ROOT = Path(__file__).parents[2]


class Package:
    """A package that states some facts of itself."""

    def __init__(self, *facts):
        self.metadata = Message()
        for key, value in facts:
            self.metadata[key] = value


@pytest.mark.parametrize(
    ("facts", "licence"),
    [
        ([("License-Expression", "MIT OR Apache-2.0"), ("License", "other")], "MIT OR Apache-2.0"),
        ([("Classifier", "License :: OSI Approved :: BSD License"), ("License", "a text")], "BSD License"),
        ([("Classifier", "License :: OSI Approved"), ("License", "BSD-3-Clause")], "BSD-3-Clause"),
        ([("Classifier", "Topic :: Science"), ("License", "UNKNOWN")], "unknown"),
        ([("License", "Copyright (c) somebody\nPermission is hereby granted ...")], "unknown"),
        ([("License", "x" * 61)], "unknown"),
        ([], "unknown"),
    ],
)
def test_a_licence_is_what_the_package_states_or_unknown(facts, licence):
    assert licence_of(Package(*facts)) == licence


def test_dependencies_are_those_of_dependencies_too():
    found = {d.name.lower(): d for d in find_dependencies()}
    assert found["numpy"].version == version("numpy")
    assert found["numpy"].licence.startswith("BSD")
    assert found["numpy"].needed_by in {d.name for d in found.values()} | {"hescribe"}
    assert {"h5py", "torch", "safetensors", "filelock"} <= found.keys()  # the last is needed by torch alone
    assert "hescribe" not in found
    assert list(found) == sorted(found)


def script(name):
    path = ROOT / "scripts" / name
    if not path.exists():
        pytest.skip("the scripts are in the checkout, not in an installed package")
    return subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_bill_of_materials_lists_each_package_once_and_every_reference_resolves():
    bill = json.loads(script("sbom.py"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    refs = [c["bom-ref"] for c in bill["components"]]
    assert len(refs) == len(set(refs)) == len(find_dependencies())
    assert f"pkg:pypi/numpy@{version('numpy')}" in refs
    asked = [ref for d in bill["dependencies"] for ref in (d["ref"], *d["dependsOn"])]
    assert set(asked) <= {*refs, "hescribe"}
    assert set(refs) <= set(asked)

"""Print the lowest versions that pyproject.toml promises, one a line, as constraints for pip: ``make test-min``.

    python scripts/floors.py > floors.txt

torch and torchvision have no floor: they stay as installed.
"""

import re
import tomllib
from pathlib import Path

FLOOR = re.compile(r"([A-Za-z0-9._-]+)>=([0-9][0-9A-Za-z.]*)")
EXTRAS = ("spatial", "retrieval", "viewer", "ray", "slurm", "test")  # what the tests install


def read_floors(pyproject: Path) -> dict[str, str]:
    """Return the floor of each package that the package or its tests ask for."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras.get(extra, ()))]
    return {found[1]: found[2] for line in lines if (found := FLOOR.match(line.partition(";")[0].strip()))}


if __name__ == "__main__":
    for name, version in read_floors(Path(__file__).parents[1] / "pyproject.toml").items():
        print(f"{name}=={version}")

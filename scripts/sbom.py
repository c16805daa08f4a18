"""Write the bill of materials of an installed HEscribe as CycloneDX JSON: ``make sbom``.

    python scripts/sbom.py > sbom.json

Every package with its version, licence and package URL, and what this package asks for directly or through others.
"""

import json
import sys
from importlib.metadata import version

from hescribe.dependencies import ROOT, UNKNOWN, Dependency, find_dependencies


def to_component(dependency: Dependency) -> dict[str, object]:
    """Return a package as a component of CycloneDX 1.5; a licence that is not known is left out, as the format asks."""
    url = f"pkg:pypi/{dependency.name.lower().replace('_', '-')}@{dependency.version}"
    known = [] if dependency.licence == UNKNOWN else [{"license": {"name": dependency.licence}}]
    return {
        "type": "library", "bom-ref": url, "name": dependency.name, "version": dependency.version, "purl": url,
        "licenses": known,
    }  # fmt: skip


def to_bom(dependencies: tuple[Dependency, ...]) -> dict[str, object]:
    """Return the bill: without serial number and time, so that the same packages give the same bytes."""
    own = {"type": "library", "bom-ref": ROOT, "name": ROOT, "version": version(ROOT)}
    components = [to_component(d) for d in dependencies]
    refs = {d.name: c["bom-ref"] for d, c in zip(dependencies, components, strict=True)}
    asks = {by: [refs[d.name] for d in dependencies if d.needed_by == by] for by in {d.needed_by for d in dependencies}}
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": own},
        "components": components,
        "dependencies": [{"ref": refs.get(by, by), "dependsOn": asks[by]} for by in sorted(asks)],
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(to_bom(find_dependencies()), sys.stdout, indent=1)
    sys.stdout.write("\n")

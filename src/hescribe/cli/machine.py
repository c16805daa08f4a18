"""``hescribe doctor`` and ``hescribe list``: what is here."""

import importlib
import importlib.metadata
import platform
from enum import StrEnum
from typing import Annotated

import typer

from hescribe import __version__, settings
from hescribe.cli.output import OUTPUT, command

PACKAGES = ("numpy", "anndata", "torch", "torchvision", "timm", "openvino", "openslide-python", "imagecodecs")


class Kind(StrEnum):
    """What can be listed."""

    PREDICTORS = "predictors"
    ALIGNERS = "aligners"
    COMPLETERS = "completers"
    ENCODERS = "encoders"
    GENE_ENCODERS = "gene-encoders"
    READERS = "readers"
    PROTOCOLS = "protocols"
    DATASETS = "datasets"
    RUNGS = "rungs"
    SLIDE_MODELS = "slide-models"
    TASKS = "tasks"
    LAUNCHERS = "launchers"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Examples: hescribe doctor   |   hescribe doctor --json")(doctor)
    app.command("list", epilog="Examples: hescribe list predictors   |   hescribe list encoders --json")(list_)


@command
def doctor(
    *,
    licences: Annotated[bool, typer.Option("--licences", help="List all packages and encoders with licences.")] = False,
) -> None:
    """Show what is installed, which device is used, which encoders run now and how fast, and under which licences."""
    from hescribe.cli.licences import count, list_encoders, list_packages  # noqa: PLC0415 - the command line starts fast
    from hescribe.encode import accelerate  # noqa: PLC0415

    packages, weights = list_packages(), list_encoders()
    if licences:
        OUTPUT.result({"packages": packages, "encoders": weights})
        OUTPUT.table(packages, title="Packages")
        OUTPUT.table(weights, title="\nEncoders")
        return

    versions = {name: _version(name) for name in PACKAGES}
    cache = settings.cache_dir()
    used_mb = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) / 1e6 if cache.exists() else 0.0
    facts = {
        "hescribe": __version__,
        "python": platform.python_version(),
        "cores": settings.n_workers(),
        "cache": str(cache),
        "cache_mb": round(used_mb, 1),
        "offline": settings.is_offline(),
        "packages": versions,
    }
    encoders = accelerate.describe()
    OUTPUT.result({**facts, "encoders": encoders, "licences": {"packages": packages, "encoders": weights}})
    flat = {
        **{k: v for k, v in facts.items() if k != "packages"},
        **{k: v or "not installed" for k, v in versions.items()},
    }
    OUTPUT.table([{"what": k, "is": str(v)} for k, v in flat.items()])
    OUTPUT.table(encoders, title="\nEncoders")
    OUTPUT.table(count(packages), title="\nLicences of the packages; each one: hescribe doctor --licences")


@command
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List what can be named: predictors, aligners, completers, encoders, readers, protocols, slide-models ..."""
    if kind is Kind.DATASETS:
        from hescribe.cli.catalogue import list_datasets  # noqa: PLC0415 - the command line starts fast

        list_datasets()
        return
    rows = {
        Kind.PREDICTORS: _predictors, Kind.ALIGNERS: _aligners, Kind.COMPLETERS: _completers,
        Kind.ENCODERS: _encoders, Kind.GENE_ENCODERS: _gene_encoders, Kind.READERS: _readers,
        Kind.PROTOCOLS: _protocols, Kind.RUNGS: _rungs, Kind.SLIDE_MODELS: _slide_models, Kind.TASKS: _tasks,
        Kind.LAUNCHERS: _launchers,
    }[kind]()  # fmt: skip
    OUTPUT.result({kind.value: rows})
    OUTPUT.table(rows)


def _predictors() -> list[dict[str, object]]:
    from hescribe.predict.base import predictors  # noqa: PLC0415 - the command line starts fast

    cards = ((name, predictors.get(name).card) for name in predictors)
    return [{"name": n, "summary": c.summary, "transductive": c.transductive, "paper": c.paper} for n, c in cards]


def _aligners() -> list[dict[str, object]]:
    from hescribe.align.base import aligners  # noqa: PLC0415 - the command line starts fast

    cards = ((name, aligners.get(name).card) for name in aligners)
    return [{"name": n, "summary": c.summary, "paper": c.paper} for n, c in cards]


def _completers() -> list[dict[str, object]]:
    from hescribe.complete.base import completers  # noqa: PLC0415 - the command line starts fast

    cards = ((name, completers.get(name).card) for name in completers)
    return [{"name": n, "summary": c.summary, "paper": c.paper} for n, c in cards]


def _encoders() -> list[dict[str, object]]:
    from hescribe.encode.base import encoders  # noqa: PLC0415 - the command line starts fast

    cards = ((name, encoders.create(name).card) for name in encoders)
    return [{"name": n, "dims": c.n_dims, "px": c.px, "licence": c.licence, "gated": c.gated} for n, c in cards]


def _gene_encoders() -> list[dict[str, object]]:
    from hescribe.encode.gene.base import gene_encoders  # noqa: PLC0415 - the command line starts fast

    cards = ((name, gene_encoders.create(name).card) for name in gene_encoders)
    return [
        {"name": n, "dims": c.n_dims, "sees depth": c.sees_depth, "scaling": c.scaling, "licence": c.licence}
        for n, c in cards
    ]


def _readers() -> list[dict[str, object]]:
    from hescribe.data.readers.base import readers  # noqa: PLC0415 - the command line starts fast

    modules = ((name, importlib.import_module(f"{readers.package}.{name}")) for name in readers)
    return [{"name": name, "reads": (m.__doc__ or "").partition("\n")[0]} for name, m in modules]


def _protocols() -> list[dict[str, object]]:
    from hescribe.bench.completion.protocol import (  # noqa: PLC0415 - as above
        list_completion_protocols,
        read_completion_protocol,
    )
    from hescribe.bench.hescape.protocol import (  # noqa: PLC0415 - as above
        list_retrieval_protocols,
        read_retrieval_protocol,
    )
    from hescribe.bench.protocols import list_protocols, read_protocol  # noqa: PLC0415 - as above
    from hescribe.bench.slides.protocol import list_slide_protocols, read_slide_protocol  # noqa: PLC0415 - as above

    rows = [("prediction", p.name, p.summary) for p in map(read_protocol, list_protocols())]
    rows += [("completion", p.name, p.summary) for p in map(read_completion_protocol, list_completion_protocols())]
    rows += [("hescape", p.name, p.summary) for p in map(read_retrieval_protocol, list_retrieval_protocols())]
    rows += [("spade", p.name, p.summary) for p in map(read_slide_protocol, list_slide_protocols())]
    return [{"name": name, "suite": suite, "summary": summary} for suite, name, summary in rows]


def _rungs() -> list[dict[str, object]]:
    from hescribe.bench.ladder import LADDER, create_model, is_control  # noqa: PLC0415 - as above

    models = ((name, create_model(name)) for name in LADDER)
    return [{"name": n, "summary": m.card.summary, "control": is_control(m)} for n, m in models]


def _slide_models() -> list[dict[str, object]]:
    from hescribe.slide.base import slide_models  # noqa: PLC0415 - the command line starts fast

    cards = ((name, slide_models.get(name).card) for name in slide_models)
    return [{"name": n, "summary": c.summary, "paper": c.paper} for n, c in cards]


def _tasks() -> list[dict[str, object]]:
    from hescribe.bench.slides.cards import OWN, read_suite  # noqa: PLC0415 - as above

    return [
        {
            "name": c.name,
            "tells": c.told or c.title,
            "kind": c.kind,
            "cohort": c.cohort,
            "licence": c.licence,
            "access": c.access,
        }
        for c in (*OWN, *read_suite().values())
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _launchers() -> list[dict[str, object]]:
    from hescribe.launch.base import launchers  # noqa: PLC0415 - as above

    found = [(name, launchers.get(name)) for name in launchers]
    return [{"name": n, "where": c.summary, "options": ", ".join(c().get_params())} for n, c in found]  # type: ignore[attr-defined]

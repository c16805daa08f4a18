"""``hescribe embed`` of a folder of slides."""

from pathlib import Path

import typer

from hescribe.cli.output import OUTPUT, plural
from hescribe.errors import InputError


def embed_folder(
    source: Path, out: Path | None, *, encoder: str, mpp: float | None, pitch_um: float, file_format: str,
    launch: str | None,
) -> None:  # fmt: skip
    """Embed every slide of a folder, one file each, and tell of those that could not be.

    Raises
    ------
    InputError
        If there is nowhere to write to.
    """
    from hescribe.launch.base import create_launcher  # noqa: PLC0415 - the command line starts fast
    from hescribe.launch.embedding import Embedding, embed_slides  # noqa: PLC0415

    if out is None:
        raise InputError(f"{source} is no cohort; to embed the slides in it, say where to with --out")
    job = Embedding(
        source=str(source), out=str(out), encoder=encoder, mpp=mpp, pitch_um=pitch_um, file_format=file_format
    )
    units = embed_slides(job, create_launcher(launch) if launch else None)
    failed = {unit.path.name: unit.failure for unit in units if unit.failure}
    OUTPUT.result(
        {"encoder": encoder, "out": str(out), "n_slides": len(units), "failed": failed},
        f"{out}: {plural(len(units) - len(failed), 'slide')}",
    )
    for name, why in failed.items():
        OUTPUT.say(f"{name}: {why}")
    if failed:
        OUTPUT.say(f"{len(failed)} of {plural(len(units), 'slide')} not embedded; the same command tries again")
        raise typer.Exit(1)

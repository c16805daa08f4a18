"""``hescribe data convert``: a cohort, or tiles of slides, for other tools; and a cohort back."""

from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command


def add_to(app: typer.Typer) -> None:
    """Add the command to ``hescribe data``."""
    app.command(
        epilog="Examples:  hescribe data convert cohort --to spatialdata --out cohort.zarr   |   "
        "hescribe data convert cohort.zarr --to cohort --out again"
    )(convert)


@command
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Cohort folder; or a zarr store, or h5ad files.")],
    *,
    to: Annotated[str, typer.Option("--to", help="spatialdata or h5ad; cohort; of tiles wsidata or trident.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be new.")],
) -> None:
    """Write a cohort, or features or predictions of tiles, for other tools; or turn theirs into a cohort."""
    from hescribe.data.convert import convert as run  # noqa: PLC0415 - keeps --help fast

    notes = run(source, to, out)  # type: ignore[arg-type] # a wrong word is answered with those there are
    for note in notes:
        OUTPUT.say(f"note: {note}")
    OUTPUT.result({"out": str(out), "to": to, "notes": list(notes)}, f"{out}: {to} of {source}")

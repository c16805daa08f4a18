"""``hescribe model``: share what was fitted."""

from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command

app = typer.Typer(help="Describe a fitted model.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Describe a fitted model."""


@app.command(epilog="Examples: hescribe model card M   |   hescribe model card M --out card.html")
@command
def card(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="HTML page to write; without it, card.html and README.md in the model folder.")
    ] = None,
) -> None:
    """Write the card of a model: what it is, how far to trust it, where not to use it."""
    from hescribe.bench.model_folder import read_model  # noqa: PLC0415 - the command line starts fast
    from hescribe.report.model_card import write_cards, write_model_card  # noqa: PLC0415

    info = read_model(model).info
    written = write_cards(info, model) if out is None else (write_model_card(info, out),)
    OUTPUT.result({"written": [str(p) for p in written]}, "\n".join(str(p) for p in written))

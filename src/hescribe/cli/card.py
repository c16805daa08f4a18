"""``hescribe model``: describe and share what was fitted."""

from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command, plural

app = typer.Typer(help="Describe and share a fitted model.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Describe and share a fitted model."""


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


@app.command(epilog="Examples: hescribe model push M my-lab/her2st   |   hescribe model push M my-lab/her2st --public")
@command
def push(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    repository: Annotated[str, typer.Argument(help="Where on the Hugging Face hub, as owner/name.")],
    *,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a repository that is new.")] = False,
    may_share: Annotated[
        bool,
        typer.Option("--may-share", help="You have read the terms that stand against it, and may share the model."),
    ] = False,
) -> None:
    """Upload a model with its card; refused where the terms of its data or encoder stand against it."""
    from hescribe.report.model_hub import push_model  # noqa: PLC0415 - the command line starts fast

    done = push_model(model, repository, private=not public, may_share=may_share)
    OUTPUT.result({"page": done.page, "revision": done.revision}, f"{done.page} at {done.revision}")


@app.command(
    epilog="Examples: hescribe model pull my-lab/m --out M   |   hescribe model pull my-lab/m --out M --revision v1"
)
@command
def pull(
    repository: Annotated[str, typer.Argument(help="Where on the Hugging Face hub, as owner/name.")],
    *,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
) -> None:
    """Download a model of one commit: verified, whole or not at all."""
    from hescribe.report.model_hub import pull_model  # noqa: PLC0415 - the command line starts fast

    done = pull_model(repository, out, revision=revision, overwrite=overwrite)
    if done.n_others:
        OUTPUT.say(
            f"{plural(done.n_others, 'other file')} of the repository are no part of a model and were left there"
        )
    OUTPUT.result(
        {"out": str(out), "page": done.page, "revision": done.revision}, f"{out}: {done.page} at {done.revision}"
    )

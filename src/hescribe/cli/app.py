"""The command line: one verb, one function."""

import importlib

import typer

import hescribe

app = typer.Typer(
    name="hescribe",
    help="Learn between H&E histology and spatial transcriptomics, and know how far to trust it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def top(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:  # noqa: FBT003
    """Learn between H&E histology and spatial transcriptomics, and know how far to trust it."""
    if version:
        from hescribe.cli.output import OUTPUT  # noqa: PLC0415 - only here

        OUTPUT.result({"version": hescribe.__version__}, hescribe.__version__)
        raise typer.Exit


for group, module in (("data", "data"), ("bench", "bench"), ("model", "card")):
    app.add_typer(importlib.import_module(f"hescribe.cli.{module}").app, name=group)
for module in ("model", "predict", "complete", "analyse", "machine", "plan", "demo", "view"):
    importlib.import_module(f"hescribe.cli.{module}").add_to(app)


def main() -> None:
    """Run the command line."""
    app()

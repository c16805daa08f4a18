"""``hescribe view``: look at a prediction or a cohort in the browser."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from hescribe.cli.output import OUTPUT, command


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Examples: hescribe view P   |   hescribe view P --export map.html")(view)


@command
def view(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What hescribe predict wrote, or a cohort.")],
    *,
    slide: Annotated[Path | None, typer.Option(help="Image of the one section, if it has moved.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Size of a pixel of --slide in um, if it does not say.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write one HTML file that works offline, and end.")] = None,
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Look at sections in the browser: the slide, and measured beside predicted expression; on this machine alone."""
    from hescribe._support import import_extra  # noqa: PLC0415 - the command line starts fast
    from hescribe.view.page import write_page  # noqa: PLC0415
    from hescribe.view.scene import read_scene  # noqa: PLC0415

    for module in ("bokeh", "starlette", "uvicorn"):
        import_extra(module, "viewer", "the viewer")
    scene = read_scene(folder, slide=slide, mpp=mpp)
    for problem in (v.problem for v in scene if v.problem):
        OUTPUT.say(problem)
    if export is not None:
        write_page(scene, export)
        OUTPUT.result({"written": str(export)}, str(export))
        return

    from hescribe.view.server import serve  # noqa: PLC0415 - the extra is there

    def started(address: str) -> None:
        OUTPUT.result({"address": address}, address)
        OUTPUT.say("stop it with Ctrl-C")
        if browser:
            webbrowser.open(address)

    serve(scene, port, started=started)

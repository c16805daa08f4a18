"""The page of the viewer: served piece by piece, or written whole as one file that works offline."""

import base64
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hescribe import keys
from hescribe._support import import_extra, write_whole
from hescribe.errors import InputError
from hescribe.prep.looks import UNLIKE
from hescribe.view.scene import PEARSON, View
from hescribe.view.tiles import Tiles

BOKEH = ("bokeh.min.js", "bokeh-gl.min.js", "bokeh-api.min.js")
OWN = ("data.js", "raster.js", "maps.js", "viewer.js")
EXPORT_VALUES = 5_000_000  # of all genes and layers in one file: 20 MB, as text 27 MB
EXPORT_PX = 2000  # longest side of the image in it


def _bokeh(name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        package = import_extra("bokeh", "viewer", "the viewer")
        return (Path(str(package.__file__)).parent / "server" / "static" / "js" / name).read_bytes()

    return read


def _own(name: str) -> Callable[[], bytes]:
    return lambda: resources.files("hescribe.view").joinpath(name).read_bytes()


SCRIPTS = {name: _bokeh(name) for name in BOKEH} | {name: _own(name) for name in (*OWN, "viewer.css")}


def describe(view: View, tiles: Tiles | None) -> dict[str, Any]:
    """Return what the page has to know of a section before it draws, ready for JSON."""
    genes = view.genes
    scores = genes[PEARSON].round(3)
    size_um = view.xy_um.max(axis=0) + view.pitch_um if view.image is None else view.image.size_um
    return {
        "id": view.id,
        "n_spots": len(view.xy_um),
        "pitch_um": view.pitch_um,
        "size_um": [float(s) for s in size_um],
        "tiles": None if tiles is None else {"n_levels": tiles.n_levels, "side_um": tiles.side_um},
        "genes": [str(g) for g in genes.index],
        "trust": [str(t) for t in genes[keys.TRUST]],
        "pearson": [float(s) if np.isfinite(s) else None for s in scores],
        "layers": list(view.layers),
        "domains": [{"name": name, "values": values} for name, (values, _) in view.domains.items()],
        "has_ood": view.ood is not None,
        "unlike": UNLIKE,
        "notes": _notes(view),
    }


def render_page(scene: tuple[View, ...]) -> str:
    """Return the page that asks the server for all it shows."""
    return str(_template().render(sections=[v.id for v in scene], embedded=None, scripts=(*BOKEH, *OWN), style=""))


def write_page(scene: tuple[View, ...], path: Path) -> None:
    """Write everything into one HTML file.

    Raises
    ------
    InputError
        If there is too much to show for one file.
    MissingDependencyError
        If bokeh is not installed.
    """
    n_values = sum(len(v.xy_um) * len(v.genes) * len(v.layers) for v in scene)
    if n_values > EXPORT_VALUES:
        raise InputError(
            f"{n_values:,} values are too many for one page ({EXPORT_VALUES:,}); predict fewer genes or sections, "
            "or view them without --export"
        )
    data = [_embed(view) for view in scene]
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # nothing in it can end the script element
    scripts = [_trusted(SCRIPTS[name]().decode().replace("</script", "<\\/script")) for name in (*BOKEH, *OWN)]
    style = _trusted(SCRIPTS["viewer.css"]().decode())
    ids = [v.id for v in scene]
    page = _template().render(sections=ids, embedded=_trusted(text), scripts=scripts, style=style)
    with write_whole(path) as tmp:
        tmp.write_text(page, encoding="utf-8")


def _embed(view: View) -> dict[str, Any]:
    tiles = None if view.image is None else Tiles(view.image)
    values = [[_base64(view.values(str(g), layer).tobytes()) for layer in view.layers] for g in view.genes.index]
    return {
        **describe(view, None),
        "picture": None if tiles is None else _base64(tiles.overview(EXPORT_PX)),
        "spots": _base64(spot_bytes(view)),
        "names": view.spot_names,
        "values": values,
        "codes": [_base64(codes.tobytes()) for _, codes in view.domains.values()],
    }


def spot_bytes(view: View) -> bytes:
    """Return x, y and novelty of all spots, float32, one after the other."""
    ood = view.ood if view.ood is not None else np.zeros(len(view.xy_um), dtype=np.float32)
    return np.concatenate([view.xy_um.T.ravel(), ood]).astype("<f4").tobytes()


def _notes(view: View) -> list[str]:
    """Return what a reader has to be told of a section before anything else."""
    doubts = view.notes.get("doubts", [])
    return [n for n in (view.problem, *([doubts] if isinstance(doubts, str) else doubts)) if n]


def _trusted(text: str) -> Markup:
    """Return text that goes into the page as it is: our own scripts and styles, and JSON without a single ``<``."""
    return Markup(text)  # noqa: S704 - see above


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("hescribe", "view"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("viewer.html.jinja")

"""What a unit of work was measured to cost: shipped with the package, measured here, or in a file of yours."""

import platform
import time
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hescribe import settings
from hescribe._support import write_whole
from hescribe.data.toml_file import Record, check_record, to_toml
from hescribe.encode.base import create_encoder, encoders
from hescribe.errors import DataAccessError, FormatError, InputError

Work = Literal["read", "encode", "pair", "cell"]
CORE = "core"  # device of a cost that is counted in seconds of one processor core
OWN = "costs.toml"  # in the cache: what was measured here
MEASURE_S = 10.0  # of the encoder, at least


class Cost(Record):
    """Seconds of one unit.

    Parameters
    ----------
    work
        ``"read"`` a tile from a slide, ``"encode"`` a tile, learn a ``"pair"`` once, run a benchmark ``"cell"``.
    of
        Encoder, aligner or model; empty for reading.
    device
        ``"core"``, or the name of a GPU.
    seconds
        Of one core, or of one GPU.
    measured
        Where, when and how.
    """

    work: Work
    of: str = ""
    device: str = CORE
    seconds: float = Field(gt=0)
    measured: str


def read_costs(path: Path | None = None) -> list[Cost]:
    """Return every known cost, those of a file of yours first, then those measured here, then the shipped ones.

    Parameters
    ----------
    path
        TOML with an array ``cost``.

    Raises
    ------
    DataAccessError
        If a file cannot be read.
    FormatError
        If it is no TOML, or no cost.
    """
    own = settings.cache_dir() / OWN
    return [
        *(_read(path.read_text, str(path)) if path else []),
        *(_read(own.read_text, str(own)) if own.exists() else []),
        *_shipped(),
    ]


@cache
def _shipped() -> tuple[Cost, ...]:
    file = files("hescribe.launch") / "costs.toml"
    return tuple(_read(lambda: file.read_text(encoding="utf-8"), str(file)))


def _read(text: Callable[[], str], place: str) -> list[Cost]:
    try:
        content = tomllib.loads(text())
    except OSError as error:
        raise DataAccessError(f"{place} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{place} is no valid TOML: {error}") from error
    found = content.get("cost")
    if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
        raise FormatError(f"{place} holds no array of tables cost")
    return [check_record(x, Cost, place) for x in found]


def resolve_encoder(name: str) -> str:
    """Return the full name of an encoder: that of a card alone stands for its model of the hub.

    Examples
    --------
    >>> resolve_encoder("uni2"), resolve_encoder("color")
    ('hub_model:uni2', 'color')
    """
    from hescribe.encode.hub_model import hub_models  # noqa: PLC0415 - heavy

    return f"hub_model:{name}" if name not in encoders and name in hub_models() else name


def measure_encoder(name: str) -> Cost:
    """Measure what a tile costs an encoder on this machine, in seconds of one core or of its GPU, and remember it.

    Raises
    ------
    UnknownNameError
        If there is no such encoder.
    DataAccessError
        If its weights are not here.
    InputError
        If it reads whole sections.
    """
    encoder: Any = create_encoder(name)
    if not hasattr(encoder, "encode"):
        raise InputError(f"{name} reads whole sections; measure the image encoder below it")
    on_gpu = _gpu_name()
    clock = time.perf_counter if on_gpu else time.process_time
    tiles = np.random.default_rng(0).integers(0, 256, (32, encoder.card.px, encoder.card.px, 3), dtype=np.uint8)
    encoder.encode(tiles)  # once unmeasured: weights, and the way it runs
    n, start = 0, clock()
    while not n or clock() - start < MEASURE_S:
        encoder.encode(tiles)
        n += len(tiles)
    cost = Cost(
        work="encode", of=name, device=on_gpu or CORE, seconds=(clock() - start) / n,
        measured=f"{platform.processor() or platform.machine()}, {time.strftime('%Y-%m-%d')}, {n} tiles of noise",
    )  # fmt: skip
    _remember(cost)
    return cost


def _remember(cost: Cost) -> None:
    path = settings.cache_dir() / OWN
    before = _read(path.read_text, str(path)) if path.exists() else []
    same = (cost.work, cost.of, cost.device)
    kept = [cost, *(c for c in before if (c.work, c.of, c.device) != same)]
    with write_whole(path) as tmp:
        tmp.write_text(to_toml({"cost": [c.model_dump() for c in kept]}))


def _gpu_name() -> str:
    import torch  # noqa: PLC0415 - heavy

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""

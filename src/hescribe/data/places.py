"""Places on a slide that somebody names: spots in a CSV, or nuclei that QuPath or another segmenter found."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hescribe.errors import FormatError, InputError
from hescribe.units import to_um

NAMES = ("spot", "spot_id", "cell", "cell_id", "id", "name")  # columns that hold the name of a place
UM, PX = ("x_um", "y_um"), ("x_px", "y_px")


def read_places(path: Path, mpp: float) -> tuple[list[str], np.ndarray]:
    """Return names and centres of the places of a file.

    Parameters
    ----------
    path
        A CSV with columns ``x_um, y_um`` or ``x_px, y_px``, from the slide's upper left corner at full resolution, and
        a name (``spot``, ``cell`` or ``id``) if there is one; or GeoJSON in pixels as QuPath writes it, whose polygons
        are given by their centroid.
    mpp
        um per pixel of the slide at full resolution.

    Returns
    -------
    Names, each once, and centres in um, shape ``(n, 2)``.

    Raises
    ------
    FormatError
        If the file cannot be read, or a place has no coordinates.
    InputError
        If it names no place, or one twice.
    """
    read = _read_csv if path.suffix.lower() in {".csv", ".tsv", ".txt"} else _read_geojson
    names, xy_um = read(path, mpp)
    if not names:
        raise InputError(f"{path} names no place on the slide")
    if not np.isfinite(xy_um).all():
        raise FormatError(
            f"{path}: {names[int(np.flatnonzero(~np.isfinite(xy_um).all(axis=1))[0])]} has no coordinates"
        )
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        raise InputError(f"{path} names {names[int(np.flatnonzero(repeated)[0])]} twice")
    return names, xy_um


def _read_csv(path: Path, mpp: float) -> tuple[list[str], np.ndarray]:
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=dict.fromkeys(NAMES, str))
    except (OSError, ValueError, csv.Error) as error:
        raise FormatError(f"{path} is no readable CSV: {error}") from error
    of_um = all(c in table for c in UM)
    if of_um == all(c in table for c in PX):
        raise FormatError(
            f"{path} has columns {', '.join(map(str, table.columns[:6]))}; give x_um and y_um, or x_px and y_px"
        )
    try:
        xy = table[list(UM if of_um else PX)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise FormatError(f"{path} holds a coordinate that is no number: {error}") from error
    named = next((c for c in NAMES if c in table), None)
    names = [f"spot{i}" for i in range(len(table))] if named is None else table[named].fillna("").tolist()
    return names, xy if of_um else np.asarray(to_um(xy, mpp))


def _read_geojson(path: Path, mpp: float) -> tuple[list[str], np.ndarray]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is no CSV and no GeoJSON: {error}") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    try:
        found = list(_centres(features))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} holds a feature that is no place: {error!r}") from error
    names = [name or f"cell{i}" for i, (name, _) in enumerate(found)]
    return names, np.asarray(to_um(np.array([xy for _, xy in found], dtype=np.float64).reshape(-1, 2), mpp))


def _centres(features: list[dict[str, Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name, or an empty text, and the centre of each polygon or point."""
    for feature in features:
        geometry = feature["geometry"]
        if geometry["type"] == "Point":
            centre = np.array(geometry["coordinates"][:2], dtype=np.float64)
        elif geometry["type"] in {"Polygon", "MultiPolygon"}:
            parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
            centre = max((_centroid(np.array(part[0], dtype=np.float64)[:, :2]) for part in parts), key=lambda c: c[1])[
                0
            ]
        else:
            continue
        yield str(feature.get("id") or ""), centre


def _centroid(ring: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centroid of the area inside a ring of shape ``(n, 2)``, and the area."""
    start = ring[0]
    (x, y), (x1, y1) = (ring - start).T, (np.roll(ring, -1, axis=0) - start).T
    cross = x * y1 - x1 * y
    area = cross.sum() / 2
    if abs(area) < 1e-9:  # a line
        return ring.mean(axis=0), 0.0
    return start + np.array([((x + x1) * cross).sum(), ((y + y1) * cross).sum()]) / (6 * area), abs(area)

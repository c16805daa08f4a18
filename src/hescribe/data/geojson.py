"""GeoJSON as QuPath reads and writes it: predicted spots out, a pathologist's regions in.

Bankhead et al., QuPath: Open source software for digital pathology image analysis, Scientific Reports 2017. Its
coordinates are pixels of the slide at full resolution, not degrees: the frame of ``obsm["spatial"]``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from hescribe import keys
from hescribe._support import write_whole
from hescribe.data.predicted import predicted_values
from hescribe.data.section import Section
from hescribe.data.untrusted import parse_json
from hescribe.errors import FormatError, InputError

N_CORNERS = 16  # of the polygon that stands for a round spot
UNNAMED = "unnamed"  # a region without a class


@dataclass(frozen=True)
class Region:
    """A region that somebody drew.

    Parameters
    ----------
    name
        Its class.
    rings
        Corners of its outlines and holes, each of shape ``(n, 2)``, in pixels.
    """

    name: str
    rings: tuple[np.ndarray, ...]

    def holds(self, xy_px: np.ndarray) -> np.ndarray:
        """Return which places of shape ``(n, 2)`` lie inside: within an odd number of rings."""
        inside = np.zeros(len(xy_px), dtype=bool)
        for ring in self.rings:
            inside ^= _is_inside(xy_px, ring)
        return inside


def write_geojson(table: AnnData, path: Path, genes: list[str], *, diameter_px: float) -> None:
    """Write spots as QuPath detections with one measurement a gene.

    Parameters
    ----------
    table
        As ``predict`` writes it.
    path
        File to write.
    genes
        Of the table.
    diameter_px
        Of a spot.

    Raises
    ------
    PanelError
        If the table lacks a gene.
    """
    values = predicted_values(table, genes)
    angle = np.linspace(0, 2 * np.pi, N_CORNERS + 1)
    circle = diameter_px / 2 * np.column_stack([np.cos(angle), np.sin(angle)])
    circle[-1] = circle[0]  # a ring is closed to the last digit
    spots = zip(table.obs_names, np.asarray(table.obsm[keys.SPATIAL], dtype=float), values, strict=True)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [np.round(centre + circle, 2).tolist()]},
            "properties": {
                "objectType": "detection",
                "name": str(name),
                "measurements": {g: round(float(v), 4) for g, v in zip(genes, row, strict=True) if np.isfinite(v)},
            },
        }
        for name, centre, row in spots
    ]
    with write_whole(path) as tmp:
        tmp.write_text(json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False))


def read_regions(path: Path) -> tuple[Region, ...]:
    """Return the regions of a GeoJSON file, in their order; points and lines are passed over.

    Raises
    ------
    FormatError
        If the file is no GeoJSON, or holds no region.
    """
    try:
        content = parse_json(path.read_bytes(), path)
    except OSError as error:  # FormatError is one
        raise FormatError(f"{path} is no GeoJSON: {error}") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise FormatError(f"{path} is no GeoJSON: it holds no list of features")
    try:
        regions = tuple(r for feature in features if (r := _to_region(feature)) is not None)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"{path} holds a feature that is no region of QuPath: {error!r}") from error
    if not regions:
        raise FormatError(f"{path} holds no polygon; export annotations, not points")
    return regions


def label_spots(xy_px: np.ndarray, regions: tuple[Region, ...]) -> np.ndarray:
    """Return the class of the region that each spot lies in, an empty text where it lies in none.

    Where regions overlap, the smaller one names the spot: a region inside another is drawn to differ from it.

    Parameters
    ----------
    xy_px
        Centres of the spots in pixels at full resolution, shape ``(n_spots, 2)``.
    regions
        From ``read_regions``.

    Raises
    ------
    InputError
        If no region holds a spot: the file is of another slide or scale.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    >>> label_spots(np.array([[5.0, 5.0], [20.0, 5.0]]), (Region("tumour", (square,)),)).tolist()
    ['tumour', '']
    """
    labels = np.full(len(xy_px), "", dtype=object)
    for region in sorted(regions, key=_area, reverse=True):
        labels[region.holds(xy_px)] = region.name
    if not (labels != "").any():
        raise InputError("no region holds a spot: are the regions of this slide, in pixels at full resolution?")
    return labels


def with_regions(section: Section, path: Path) -> Section:
    """Return the section with the class of each spot as ``obs["region"]``; it is missing where no region lies.

    Raises
    ------
    FormatError
        If the file holds no regions.
    InputError
        If none of them holds a spot.
    """
    labels = label_spots(np.asarray(section.table.obsm[keys.SPATIAL], dtype=float), read_regions(path))
    table = section.table.copy()
    table.obs[keys.REGION] = pd.Categorical([label or None for label in labels])
    return section.with_table(table)


def _to_region(feature: dict[str, Any]) -> Region | None:
    geometry, properties = feature["geometry"], feature.get("properties") or {}
    if geometry is None or geometry["type"] not in {"Polygon", "MultiPolygon"}:
        return None
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    rings = tuple(np.array(ring, dtype=float)[:, :2] for part in parts for ring in part)
    if not rings or not all(len(ring) > 2 and np.isfinite(ring).all() for ring in rings):
        raise ValueError("a ring needs three corners at finite places")
    name = (properties.get("classification") or {}).get("name") or properties.get("name") or UNNAMED
    return Region(str(name), rings)


def _area(region: Region) -> float:
    """Return the area of the largest ring, by the shoelace formula."""
    return max(
        abs(float(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))) / 2 for x, y in (ring.T for ring in region.rings)
    )


def _is_inside(xy: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return which places a ray to the right leads out of, by an odd number of crossings."""
    inside = np.zeros(len(xy), dtype=bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > xy[:, 1]) != (y1 > xy[:, 1])
        inside ^= crosses & (xy[:, 0] < x0 + (xy[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return inside

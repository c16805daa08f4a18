"""HEST-1k's own table, read from the user's file: its licence (CC BY-NC-SA 4.0) forbids to ship it.

Jaume et al., HEST-1k: a dataset for spatial transcriptomics and histology image analysis, NeurIPS 2024,
arXiv:2406.16192. The table's patients are numbered anew in each study, so that a donor here is the study's
title and the patient together; where the patient is blank, the sample has no donor.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from hescribe.data.catalogue import find_entry
from hescribe.data.dataset_card import Caution, Entry
from hescribe.errors import DataAccessError, FormatError, SchemaError

REQUIRED = (
    "dataset_title", "id", "organ", "species", "patient", "st_technology", "pixel_size_um_embedded",
    "pixel_size_um_estimated",
)  # fmt: skip
AGREE = 0.05  # of two statements of a pixel size, as at the import
PLAUSIBLE_UM = (0.05, 5.0)  # of a pixel of a scanned slide


@dataclass(frozen=True, kw_only=True)
class HestSample:
    """One row of the table.

    Parameters
    ----------
    id
        HEST's own, for example ``TENX95``.
    study
        Title of the dataset it is from.
    donor
        Study and patient; None where the patient is blank.
    organ, species, technology
        As in the table.
    mpp_embedded, mpp_estimated
        um per pixel in the image's metadata, and as HEST measured it; None where blank or no number.
    """

    id: str
    study: str
    donor: str | None
    organ: str
    species: str
    technology: str
    mpp_embedded: float | None
    mpp_estimated: float | None


@dataclass(frozen=True, kw_only=True)
class HestMetadata:
    """The table, and what is wrong in it."""

    sections: tuple[HestSample, ...]
    warnings: tuple[Caution, ...]


def read_hest_metadata(csv_file: Path) -> HestMetadata:
    """Read HEST-1k's table of samples.

    Parameters
    ----------
    csv_file
        ``HEST_v1_1_0.csv`` or another version, as ``hescribe data fetch hest_1k --only "HEST_v*.csv"`` brings it.

    Returns
    -------
    Samples in the order of the table, and warnings: blank patients, contradictory pixel sizes, and, of
    the known defects of HEST-1k, those that concern samples of this table.

    Raises
    ------
    DataAccessError
        If the file cannot be read.
    FormatError
        If it is no CSV in UTF-8.
    SchemaError
        If a column is missing, an id is blank or given twice, or a row is cut: all problems.
    """
    rows = _read_rows(csv_file)
    samples = tuple(_to_sample(row) for row in rows)
    return HestMetadata(sections=samples, warnings=(*_find_defects(samples), *_known_defects(samples)))


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # the first column's name begins with a mark
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            columns = tuple(reader.fieldnames or ())
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is no CSV in UTF-8: {error}") from error
    problems = [f"column {c!r} is missing; it has {', '.join(columns[:5])} ..." for c in REQUIRED if c not in columns]
    if not problems:
        problems = _find_problems(rows)
    if problems:
        raise SchemaError(str(path), problems)
    return rows


def _find_problems(rows: list[dict[str, str]]) -> list[str]:
    problems, seen = [] if rows else ["it has no row"], set()
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            problems.append(f"row {number} has another number of cells than the header")
        elif not (sample := row["id"].strip()):
            problems.append(f"row {number} has no id")
        elif sample in seen:
            problems.append(f"row {number} gives {sample} a second time")
        else:
            seen.add(sample)
    return problems


def _to_sample(row: dict[str, str]) -> HestSample:
    patient, study = row["patient"].strip(), row["dataset_title"].strip()
    return HestSample(
        id=row["id"].strip(),
        study=study,
        donor=f"{study}: {patient}" if patient else None,
        organ=row["organ"].strip(),
        species=row["species"].strip(),
        technology=row["st_technology"].strip(),
        mpp_embedded=_to_number(row["pixel_size_um_embedded"]),
        mpp_estimated=_to_number(row["pixel_size_um_estimated"]),
    )


def _to_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _find_defects(samples: tuple[HestSample, ...]) -> list[Caution]:
    """Return what the table itself shows to be wrong."""
    n, found = len(samples), []
    blank = tuple(s.id for s in samples if s.donor is None)
    if blank:
        text = f"The patient is blank for {len(blank)} of {n} samples: count each as of an unknown donor."
        found.append(Caution(code="donor_unknown", text=text, sections=blank))
    unlike = tuple(s.id for s in samples if _disagrees(s))
    if unlike:
        text = f"Embedded and estimated pixel size differ by over {AGREE:.0%} for {len(unlike)} of {n} samples."
        found.append(Caution(code="scale_contradictory", text=text, sections=unlike))
    low, high = PLAUSIBLE_UM
    odd = tuple(s.id for s in samples if s.mpp_embedded and not low <= s.mpp_embedded <= high)
    if odd:
        text = f"The embedded pixel size is outside {low} to {high} um, and no measure, for {len(odd)} of {n} samples."
        found.append(Caution(code="scale_contradictory", text=text, sections=odd))
    missing = tuple(s.id for s in samples if s.mpp_estimated is None)
    if missing:
        text = f"The pixel size was not estimated for {len(missing)} of {n} samples."
        found.append(Caution(code="scale_unknown", text=text, sections=missing))
    return found


def _disagrees(sample: HestSample) -> bool:
    """Return whether two plausible pixel sizes of a sample differ."""
    embedded, estimated = sample.mpp_embedded, sample.mpp_estimated
    if embedded is None or estimated is None or not PLAUSIBLE_UM[0] <= embedded <= PLAUSIBLE_UM[1]:
        return False
    return abs(embedded - estimated) > AGREE * estimated


def _known_defects(samples: tuple[HestSample, ...]) -> list[Caution]:
    """Return the defects on the card that concern at least two samples of this table, or one by itself."""
    card: Entry = find_entry("hest_1k")
    here, found = {s.id for s in samples}, []
    for warning in card.warning:
        present = tuple(s for s in warning.sections if s in here)
        if len(present) >= min(2, len(warning.sections)) and present:
            found.append(warning.model_copy(update={"sections": present}))
    return found

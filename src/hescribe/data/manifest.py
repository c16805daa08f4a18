"""Import manifest: what the files of a dataset do not say themselves, section by section.

A manifest states the image of a section, the scale of its coordinates, its pitch or mpp, its
donor, and what to mask. A user writes one in TOML; a dataset of the catalogue ships its own.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from hescribe.data.plain import GLASS_RGB
from hescribe.data.toml_file import Record, TechnologyName
from hescribe.errors import InputError

Positive = Annotated[float, Field(gt=0)]
Channel = Annotated[int, Field(ge=0, le=255)]


def _is_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError("is no box (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    return box


Box = Annotated[tuple[int, int, int, int], AfterValidator(_is_box)]


class ManifestSection(Record):
    """Facts about one section; an absent one is left to the files or the defaults.

    Parameters
    ----------
    id
        Name of the section as the reader finds it.
    image
        Path of the image, relative to the imported folder.
    coordinate_scale
        Pixels of ``image`` per pixel of the spot coordinates, for a reduced image.
    mpp
        um per pixel of the image.
    pitch_um
        Distance between neighbouring spot centres in um.
    mask_boxes_px
        Boxes (x0, y0, x1, y1) of the image to paint over, in its pixels.
    black_background
        Whether black pixels are painted over.
    fill_rgb
        Colour of the paint; that of bare glass unless stated.
    """

    id: str
    image: str | None = None
    coordinate_scale: Positive = 1.0
    mpp: Positive | None = None
    pitch_um: Positive | None = None
    donor: str | None = None
    organ: str | None = None
    mask_boxes_px: tuple[Box, ...] = ()
    black_background: bool = False
    fill_rgb: tuple[Channel, Channel, Channel] = GLASS_RGB


class Manifest(Record):
    """Facts about all sections of an import.

    Parameters
    ----------
    technology, organ, organism, pitch_um
        Hold for every section that does not state its own.
    pitch_note
        How an inferred pitch was found; shown after the import.
    donors
        Section names by donor.
    section
        What differs from section to section.
    """

    technology: TechnologyName | None = None
    organ: str | None = None
    organism: str | None = None
    pitch_um: Positive | None = None
    pitch_note: str = ""
    donors: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    section: tuple[ManifestSection, ...] = ()

    @model_validator(mode="after")
    def _states_each_section_once(self) -> "Manifest":
        for names in ([s.id for s in self.section], [i for ids in self.donors.values() for i in ids]):
            if twice := sorted({i for i in names if names.count(i) > 1}):
                raise ValueError(f"section {twice[0]!r} is stated twice")
        return self

    def of(self, section_id: str) -> ManifestSection:
        """Return the facts of one section, the defaults if it is not listed."""
        return next((s for s in self.section if s.id == section_id), ManifestSection(id=section_id))

    def donor_of(self, section_id: str) -> str | None:
        """Return the donor of a section, None if the manifest does not say."""
        listed = next((d for d, ids in self.donors.items() if section_id in ids), None)
        return self.of(section_id).donor or listed

    def check_sections(self, found: list[str]) -> None:
        """Raise ``InputError`` if the manifest describes a section that the source has not.

        A donor's list may name sections that are not there: part of a dataset may be imported.
        """
        if missing := [s.id for s in self.section if s.id not in found]:
            raise InputError(
                f"the manifest describes section {missing[0]!r}, which the source has not; it has {', '.join(found)}"
            )

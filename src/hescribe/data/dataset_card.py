"""The schema of a card in the catalogue: what a published dataset holds, where it lies, what is wrong with it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hescribe.cards import DatasetCard
from hescribe.data.manifest import Manifest, Positive
from hescribe.data.toml_file import Record, TechnologyName

Collection = Literal["spared", "hescape", "hest", "other"]
Split = Literal["train", "val", "test"]
SourceKind = Literal["huggingface", "zenodo", "mendeley", "figshare", "geo", "tenx", "github"]
Terms = Literal["open", "restricted", "unknown"]
WarningCode = Literal[
    # the same tissue or data elsewhere
    "duplicate_of",  # the same sections in another dataset, or under another id
    "same_tissue",  # several sections of one piece of tissue, measured apart
    "donor_replicates",  # the sections of each donor are neighbours: the donor is the unit
    # donors and splits
    "donor_unknown",  # nothing says which sections are from one person or animal
    "donor_contradictory",  # two sources name different donors
    "donor_shared_across_splits",
    "chip_shared_across_splits",
    "single_donor",
    "no_test_split",
    "val_is_test",
    "condition_confounded_with_split",
    "organ_confounded_with_split",
    "section_left_out",  # a published protocol leaves sections out without a reason
    "pretraining_leak",  # a published model was trained on sections of the test or validation split
    # images
    "immunofluorescence_image",
    "image_altered",
    "image_missing",
    # scale
    "scale_differs",  # within the dataset
    "scale_contradictory",  # between two statements about one section
    "scale_unknown",
    # counts
    "normalised_counts",
    "genes_preselected",
    "depth_differs",
    "near_empty_spots",
    "control_probes_kept",
    # access
    "gated",
    "files_unstable",  # the files have no checksum, or their place is uncertain
    "unpublished",
]


def _is_sha256(text: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError("is no sha256: 64 hexadecimal digits, in lower case")
    return text


def _is_md5(text: str) -> str:
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise ValueError("is no md5: 32 hexadecimal digits, in lower case")
    return text


Sha256 = Annotated[str, AfterValidator(_is_sha256)]
Md5 = Annotated[str, AfterValidator(_is_md5)]


class Landmark(Record):
    """A file that only this dataset has: path in its folder, and sha256."""

    path: str
    sha256: Sha256


class SourceFile(Record):
    """A file of a source that the card states itself; ``url`` only where the source's pattern does not give it."""

    path: str
    url: str | None = None
    size: int | None = Field(default=None, ge=0)
    sha256: Sha256 | None = None
    md5: Md5 | None = None


class Source(Record):
    """Where the files of a dataset lie.

    Parameters
    ----------
    kind
        The host, which decides how files are listed and fetched.
    record
        The host's own id: repository, record, accession or sample.
    version
        Version, revision or commit; empty where the host has none.
    page
        Address for people, where licence and terms are.
    note
        What this source holds, if there are several.
    gated
        Whether an agreement must be accepted on the page and a token sent.
    only
        Patterns of the paths that belong to this dataset; all if empty.
    file
        The files, where their checksums are known; else the host is asked for its list.
    """

    kind: SourceKind
    record: str
    version: str = ""
    page: str
    note: str = ""
    gated: bool = False
    only: tuple[str, ...] = ()
    file: tuple[SourceFile, ...] = ()


class ListedSection(Record):
    """A section as published.

    Parameters
    ----------
    id
        Name in the dataset.
    donor
        The person or animal; None where nothing known says it.
    split
        Published split; None if the section is in none.
    role
        ``addon``: measured again with more genes, and left out of the published splits.
    chip
        Serial number of the capture slide, which some call the patient.
    organ, condition
        Where they differ within the dataset.
    mpp
        um per pixel of the image as the dataset's own table states it.
    """

    id: str
    donor: str | None = None
    split: Split | None = None
    role: Literal["main", "addon"] = "main"
    chip: str | None = None
    organ: str | None = None
    condition: str | None = None
    mpp: Positive | None = None


class Caution(Record):
    """A known defect.

    Parameters
    ----------
    code
        One of a closed list, for programs.
    text
        One sentence, for people.
    sections
        Those concerned; all if empty.
    of
        Where they are found again. ``dataset``: each under its own id; ``dataset/section``: all of them
        as that section; ``dataset/*``: nobody states under which ids. Empty: the sections are each other's.
    """

    code: WarningCode
    text: str
    sections: tuple[str, ...] = ()
    of: tuple[str, ...] = ()


class Published(Record):
    """Numbers as the collection states them, after its own filters; not what a reader will find.

    Parameters
    ----------
    name
        Abbreviation in the paper.
    n_sections, n_patients, n_spots, n_genes
        As stated; a patient is often only a chip.
    combat_key
        Column that the published pipeline corrects for.
    """

    name: str = ""
    n_sections: int | None = None
    n_patients: int | None = None
    n_spots: int | None = None
    n_genes: int | None = None
    combat_key: Literal["patient", "slide_id"] | None = None


class Entry(Record):
    """One dataset: what it is, its sections, sources and defects, and the manifest of its import.

    Parameters
    ----------
    id, title, organism, organ, technology, licence, citation
        As in ``DatasetCard``.
    collection
        Who curated it.
    terms
        ``open``: may be used and passed on with attribution; ``restricted``: non-commercial or by agreement;
        ``unknown``: read the page of the source before use.
    doi
        Of the paper.
    donors_known, donors_note
        Whether every section names its true donor, and if not, why not.
    published
        The collection's own numbers.
    section, source, warning
        See their classes. ``section`` is empty where the dataset's own table is read instead.
    note
        Said after each import.
    landmark
        What a folder of the dataset is recognised by.
    manifest
        What its files do not say.
    """

    id: str
    collection: Collection = "other"
    title: str
    organism: str
    organ: str
    technology: TechnologyName
    licence: str
    terms: Terms
    citation: str
    doi: str = ""
    donors_known: bool
    donors_note: str = ""
    note: str = ""
    published: Published = Published()
    section: tuple[ListedSection, ...] = ()
    source: tuple[Source, ...] = ()
    warning: tuple[Caution, ...] = ()
    landmark: Landmark | None = None
    manifest: Manifest = Manifest()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Entry":
        ids = [s.id for s in self.section]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"section {twice[0]!r} is listed twice")
        if (self.licence == "unknown") != (self.terms == "unknown"):
            raise ValueError("licence and terms are unknown together or not at all")
        if ids and self.donors_known != all(s.donor for s in self.section):
            raise ValueError("donors_known must say whether every section has a donor")
        if not self.donors_known and not self.donors_note:
            raise ValueError("donors_note must say why the donors are not known")
        for warning in self.warning:
            if ids and (strangers := sorted(set(warning.sections) - set(ids))):
                raise ValueError(f"warning {warning.code} names section {strangers[0]!r}, which the card has not")
        return self

    @property
    def card(self) -> DatasetCard:
        """The facts that travel with a cohort."""
        return DatasetCard(**{f: getattr(self, f) for f in DatasetCard.__dataclass_fields__ if f != "synthetic"})

    @property
    def warnings(self) -> tuple[str, ...]:
        """The known defects as sentences."""
        return tuple(w.text for w in self.warning)

    @property
    def gated(self) -> bool:
        """Whether a source asks for an agreement and a token."""
        return any(s.gated for s in self.source)

    @property
    def donors(self) -> tuple[str, ...]:
        """Donors that are known, sorted; a section without one may be from any of them."""
        return tuple(sorted({s.donor for s in self.section if s.donor}))

    def concerned(self, warning: Caution) -> tuple[str, ...]:
        """Return the sections that a warning is about."""
        return warning.sections or tuple(s.id for s in self.section)

    def split(self, name: Split) -> tuple[str, ...]:
        """Return the sections of a published split."""
        return tuple(s.id for s in self.section if s.split == name)


class Corpus(Record):
    """What an encoder was trained on, where it is no dataset of the catalogue.

    Parameters
    ----------
    kind
        ``photographs`` can hold no donor of ours; ``histology`` and ``expression`` may.
    public
        Whether the list of its slides or samples can be read, so that an overlap could be looked for.
    """

    id: str
    title: str
    kind: Literal["photographs", "histology", "expression"]
    public: bool


class Corpora(Record):
    """The file that lists them."""

    corpus: tuple[Corpus, ...]

"""Cards: frozen facts about technologies, datasets, sections, encoders and methods."""

from dataclasses import dataclass
from typing import Literal

Grid = Literal["square", "checker", "hex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TechnologyCard:
    """How a platform lays out its spots.

    Parameters
    ----------
    name
        Identifier, for example ``"legacy_st"``.
    title
        Name for people.
    unit
        What one row of the table is.
    grid
        Array layout: ``square``; ``checker`` (every second place of a square array); ``hex``
        (Visium's array, where neighbours in a row are two columns apart); None if free.
    pitch_um
        Distance between neighbouring spot centres in um, None if the platform fixes none.
    """

    name: str
    title: str
    unit: Literal["spot", "bin", "pseudo-spot", "cell"] = "spot"
    grid: Grid | None = None
    pitch_um: float | None = None


TECHNOLOGIES = {
    card.name: card
    for card in (
        # Stahl et al., Science 2016, doi:10.1126/science.aaf2403: 100 um spots, 200 um apart.
        TechnologyCard(name="legacy_st", title="Spatial Transcriptomics, 1k array", grid="square", pitch_um=200.0),
        # The denser array: places of one parity on a 64 x 66 grid. Its pitch is stated by no file of the format.
        TechnologyCard(name="legacy_st_2k", title="Spatial Transcriptomics, 2k array", grid="checker"),
        TechnologyCard(name="visium", title="Visium, 55 um spots", grid="hex", pitch_um=100.0),
        # Bins of a square grid without gaps; their side is chosen at the import.
        TechnologyCard(name="visium_hd", title="Visium HD, bins", unit="bin", grid="square"),
        # Transcripts pooled into squares; their side is chosen at the import.
        TechnologyCard(name="xenium", title="Xenium, square pseudo-spots", unit="pseudo-spot", grid="square"),
        TechnologyCard(name="toy", title="synthetic", grid="square", pitch_um=200.0),
        TechnologyCard(name="slide", title="regular grid on a whole-slide image", grid="square"),
        TechnologyCard(name="other", title="other"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionCard:
    """Facts about one section.

    Parameters
    ----------
    technology
        Platform; gives the spot grid.
    organ, organism
        As the dataset states them; ``"unknown"`` where it does not.
    pitch_um
        Distance between neighbouring spot centres; the technology's unless declared otherwise.
    mpp
        um per pixel of the coordinates in ``obsm["spatial"]``.
    mpp_source
        Where the scale came from: ``image``, ``--mpp``, ``manifest``, ``spot pitch``,
        ``manifest pitch``, ``synthetic``, or what a reader found it in (``scalefactors``, ``alignment``, ...).
    """

    technology: TechnologyCard = TECHNOLOGIES["other"]
    organ: str = "unknown"
    organism: str = "unknown"
    pitch_um: float | None = None
    mpp: float | None = None
    mpp_source: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """Facts about a published dataset or a user's cohort, as in the catalogue.

    Parameters
    ----------
    id
        Name in the catalogue or of the cohort.
    title, citation, licence
        For people; ``"unknown"`` is a legal value, silence is not.
    warnings
        Known defects, one sentence each.
    synthetic
        True for generated data, shown wherever its numbers are.
    """

    id: str
    title: str = ""
    organism: str = "unknown"
    organ: str = "unknown"
    technology: str = "other"
    licence: str = "unknown"
    citation: str = "unknown"
    warnings: tuple[str, ...] = ()
    synthetic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCard:
    """Facts about an image encoder; its hash is part of every feature cache key.

    Parameters
    ----------
    name
        Registry name, or model id for the generic encoders.
    revision
        Version of the weights; a change invalidates cached features.
    px
        Side of the input in pixels.
    mpp
        Pixel size the encoder expects, um; None: the patch's field of view is scaled to ``px``.
    fov_um
        Sides of the patches it reads by default, um; several are encoded apart and concatenated.
    n_dims
        Length of one embedding (of one field of view).
    licence, paper, trained_on
        For people and for the overlap check.
    gated
        True if the weights ask for an agreement before download.
    n_params
        Number of weights.
    """

    name: str
    revision: str
    px: int
    n_dims: int
    fov_um: tuple[float, ...] = (112.0,)
    mpp: float | None = None
    licence: str
    paper: str
    trained_on: tuple[str, ...] = ()
    gated: bool = False
    n_params: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneEncoderCard:
    """Facts about an encoder of expression.

    Parameters
    ----------
    name
        Registry name.
    revision
        Version of the weights; ``"fitted"`` if they are learned from the train cohort.
    n_dims
        Length of one embedding.
    scaling
        What is done to raw counts first.
    sees_depth
        Whether the embedding of a spot changes when all its counts are doubled. Depth shows in images too, so that
        encoders that see it are to be compared without depth.
    licence, paper
        For people.
    trained_on
        Ids of datasets in the catalogue, for the overlap check; those of a fitted encoder are its train cohort's.
    gated
        True if the weights ask for an agreement before download.
    n_params
        Number of weights; 0 if it depends on the panel.
    """

    name: str
    revision: str
    n_dims: int
    scaling: str
    sees_depth: bool
    licence: str
    paper: str
    trained_on: tuple[str, ...] = ()
    gated: bool = False
    n_params: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCard:
    """Facts about a predictor, aligner or completer.

    Parameters
    ----------
    summary
        One sentence for ``hescribe list``.
    paper
        Source of the method; empty if it is ours.
    transductive
        True if it uses statistics of the test section's image.
    reads_image
        False if its predictions do not depend on the image, so that an odd image does not matter.
    code_licence
        Of the published code, "none" if it carries none; empty if the method is ours.
    differs
        Where we differ from the paper and why, in a sentence or two.
    n_params
        Weights of the published network, for a panel of ``n_params_genes``; None if the paper does not say and its
        figures do not add up to it.
    n_params_genes
        Size of that panel.
    """

    summary: str
    paper: str = ""
    transductive: bool = False
    reads_image: bool = True
    code_licence: str = ""
    differs: str = ""
    n_params: int | None = None
    n_params_genes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCard:
    """Facts about a benchmark task, copied into its rows and its report.

    Parameters
    ----------
    name, protocol, revision
        Identify the task; a protocol's revision changes whenever one of its numbers does.
    cohort
        Card of the data.
    n_sections, n_left_out
        Sections used, and sections left out because they have no image.
    optimistic
        Reason why scores are too good, empty if they are not (a shared donor, say).
    """

    name: str
    protocol: str
    revision: str
    cohort: DatasetCard
    n_sections: int
    n_left_out: int = 0
    optimistic: str = ""

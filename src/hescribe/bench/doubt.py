"""Why the prediction of a section may not be trusted: it looks unlike the training, or is of another kind."""

from collections.abc import Mapping

import numpy as np

from hescribe.bench.flags import flag_spots
from hescribe.bench.model_folder import FittedModel
from hescribe.data.cohort import Cohort
from hescribe.data.section import Section
from hescribe.encode.features import embed_section
from hescribe.encode.look import FACTS
from hescribe.predict.base import Predictor
from hescribe.prep.graph import pitch_um
from hescribe.prep.looks import Looks

# A section is doubted if most of its spots are less like the training images than nine in ten left-out spots were: of
# synthetic slides with a stain like those of six training donors none was, of those stained otherwise over 90 %.
ODD, MOST = 0.9, 0.5
CLEAR = 0.3  # share of spots beyond the range of one fact from which it is named
COARSER = 1.5  # times the training images' pixel
FINE_MPP = 0.5  # um per pixel; encoders read no finer than this
UNKNOWN = {"unknown", "none", ""}  # organs that say nothing
WORDS = {
    ("focus", "below"): "blurred, or enlarged from too few pixels",
    ("focus", "above"): "sharper or noisier",
    ("tissue", "below"): "little tissue",
    ("tissue", "above"): "denser tissue",
    **{(f"{c} density", "below"): "paler, or stained otherwise" for c in ("red", "green", "blue")},
    **{(f"{c} density", "above"): "darker, or stained otherwise" for c in ("red", "green", "blue")},
    **{(f"{c} ink", "below"): "stained in another hue" for c in ("blue", "red", "black")},
    ("blue ink", "above"): "in blue, green or black that is no H&E: ink, or another stain",
    ("red ink", "above"): "in red or orange that is no H&E: ink, or another stain",
    ("black ink", "above"): "dark: ink, folds, or stained far more",
}


def fit_looks(predictor: Predictor, train: Cohort, own: Mapping[str, np.ndarray]) -> Looks | None:
    """Return what the training images look like; None for a method that reads no image.

    Parameters
    ----------
    predictor
        Its card says whether it reads the image.
    train
        Prepared; only its kept spots count.
    own
        By section, the predictor's own out-of-distribution score of all spots, from a fit without their donor; it is
        used if there is one for every section.
    """
    if not predictor.card.reads_image:
        return None
    facts = _by_donor(train, {s.id: embed_section(s, "look") for s in train})
    complete = all(s.id in own for s in train)
    return Looks.fit(facts, _by_donor(train, own) if complete else None)


def score_looks(model: FittedModel, section: Section, own: np.ndarray | None) -> np.ndarray | None:
    """Return how unlike the training images each spot looks, 0 to 1, shape ``(n_spots,)``; None without an image.

    Parameters
    ----------
    model
        Without ``looks`` its predictor's own score is returned.
    section
        The section predicted.
    own
        The predictor's own score of its spots; None if it gives none.
    """
    if model.looks is None or section.image is None:
        return own
    return model.looks.score(embed_section(section, "look"), own)


def find_flags(model: FittedModel, section: Section) -> np.ndarray | None:
    """Return what is wrong with the image at each spot, shape ``(n_spots,)``; None for a method that reads none."""
    if model.looks is None or section.image is None:
        return None
    return flag_spots(embed_section(section, "look"))


def find_doubts(model: FittedModel, section: Section, ood: np.ndarray | None) -> list[str]:
    """Return why the prediction of a section may not be trusted, one sentence each with the consequence.

    Parameters
    ----------
    model
        That predicted it.
    section
        Its image, scale and organ are compared with those of the training.
    ood
        From ``score_looks``; None if nothing is known.
    """
    found = [_organ_doubt(model, section), _scale_doubt(model, section), _spacing_doubt(model, section)]
    if ood is not None and len(ood) and (share := float((ood > ODD).mean())) > MOST:
        found.append(
            f"{share:.0%} of the spots of section {section.id} look less like the training images than nine in ten "
            f"training spots did ({_in_words(model, section)}): trust classes and intervals do not hold for it; check "
            "the slide, or fit on slides like it"
        )
    return [f for f in found if f]


def _organ_doubt(model: FittedModel, section: Section) -> str:
    known = {organ.casefold() for organ in model.info.organs} - UNKNOWN
    organ = section.card.organ.casefold()
    if organ in UNKNOWN or not known or organ in known:
        return ""
    return (
        f"section {section.id} is {organ}, and the model was trained on {', '.join(sorted(known))}: trust classes and "
        "intervals say nothing about another organ"
    )


def _scale_doubt(model: FittedModel, section: Section) -> str:
    if section.image is None or model.info.image_mpp is None:
        return ""
    low, high = (max(mpp, FINE_MPP) for mpp in model.info.image_mpp)
    mpp = max(section.image.mpp, FINE_MPP)
    if low / COARSER <= mpp <= high * COARSER:
        return ""
    less = "less" if mpp > high else "more"
    return (
        f"the image of section {section.id} has {section.image.mpp:.3g} um per pixel, those of the training "
        f"{model.info.image_mpp[0]:.3g} to {model.info.image_mpp[1]:.3g}: it shows {less} detail than the model has "
        "learned from, and predictions may be wrong; check the scale, or scan alike"
    )


def _spacing_doubt(model: FittedModel, section: Section) -> str:
    found, known = pitch_um(section), model.info.pitch_um
    if section.n_spots < 2 or known / COARSER <= found <= known * COARSER:
        return ""
    return (
        f"spots of section {section.id} lie {found:.3g} um apart, those of the training {known:.3g}: trust classes and "
        "intervals were taken at the spacing of the training, and say nothing about finer or coarser detail"
    )


def _in_words(model: FittedModel, section: Section) -> str:
    """Return in what most of a section's spots leave the training range."""
    if model.looks is None or section.image is None:
        return "by the predictor's own features"
    sides = dict(zip(("below", "above"), model.looks.beyond(embed_section(section, "look")), strict=True))
    share, fact, side = max((float(v), FACTS[i], s) for s, values in sides.items() for i, v in enumerate(values))
    return WORDS[fact, side] if share >= CLEAR else "in no single way that can be named; another tissue, perhaps"


def _by_donor(train: Cohort, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of the kept spots of each donor."""
    return {d: np.concatenate([values[s.id][s.kept] for s in train if s.donor == d]) for d in train.donors}

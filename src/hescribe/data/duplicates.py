"""Find the same tissue under two names: by its image, by the counts of its spots, by what the catalogue knows."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from hescribe import keys
from hescribe.data.catalogue import find_same_tissue, load_catalogue
from hescribe.data.cohort import Cohort
from hescribe.data.image_hash import SIDE_PX, hash_image, like_pairs
from hescribe.data.section import Section
from hescribe.data.spot_hash import hash_spots, shared_share, sketch, sketch_share
from hescribe.errors import InputError, LeakageError

# Sections of her2st and stutility_mob, neighbours in one block included, share no spot (benchmarks/duplicates.py); a
# single one may be chance where spots are shallow.
MIN_SHARE = 0.05
MIN_SPOTS = 3


@dataclass(frozen=True)
class Print:
    """What a section is known again by.

    Parameters
    ----------
    cohort, section, donor
        Its names.
    image
        From ``hash_image``, shape ``(48, 48)`` uint8; None without a stained image.
    spots
        From ``hash_spots``; comparable only with hashes on the same genes.
    """

    cohort: str
    section: str
    donor: str
    image: np.ndarray | None
    spots: np.ndarray

    @property
    def name(self) -> str:
        """``dataset/section``, as the catalogue names sections."""
        return f"{self.cohort}/{self.section}"


@dataclass(frozen=True)
class Pair:
    """Two sections of the same tissue, and how that was seen."""

    one: Print
    other: Print
    evidence: str


def take_print(section: Section, cohort: str, genes: frozenset[str] | None = None, *, with_image: bool = True) -> Print:
    """Return what a section is known again by.

    Parameters
    ----------
    section
        A section without counts has no spots to be known by.
    cohort
        Id of its dataset.
    genes
        Genes to hash the spots on; its panel by default.
    with_image
        Whether its image is decoded for a hash.
    """
    image = hash_image(section.image, section.xy_um) if with_image and section.image is not None else None
    has_counts = keys.COUNTS in section.table.layers
    spots = hash_spots(section, genes) if has_counts else np.zeros(0, dtype=np.uint64)
    return Print(cohort, section.id, section.donor, image, spots)


def find_pairs(prints: Sequence[Print], against: Sequence[Print] | None = None) -> list[Pair]:
    """Return the pairs of sections that show the same tissue.

    Costs grow with the number of spots and with that of candidate images, not with the number of pairs.

    Parameters
    ----------
    prints
        Sections to compare with each other; their spots hashed on the same genes.
    against
        If given, they are compared with these instead.
    """
    everything = [*prints, *(against or ())]
    n = len(prints)
    seen: dict[tuple[int, int], list[str]] = {}
    for i, j, evidence in (*_known(everything), *_by_spots(everything), *_by_image(everything)):
        if against is None or i < n <= j:
            seen.setdefault((i, j), []).append(evidence)
    return [Pair(everything[i], everything[j], " and ".join(why)) for (i, j), why in sorted(seen.items())]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a fitted model remembers of a section it was trained on: four kilobytes, and no counts.

    Parameters
    ----------
    section, donor
        Its names.
    n_spots
        Spots that were hashed.
    spots
        The lowest of their hashes on the model's genes, hexadecimal.
    image
        Hash of the image, base64; empty without a stained image.
    """

    section: str
    donor: str
    n_spots: int
    spots: tuple[str, ...]
    image: str

    def __post_init__(self) -> None:
        try:
            _to_image(self.image)
        except ValueError as error:
            raise InputError(f"section {self.section}: {self.image[:12]!r} is no hash of an image") from error
        if wrong := [h for h in self.spots if set(h) - set("0123456789abcdef") or not 0 < len(h) <= 16]:
            raise InputError(f"section {self.section}: {wrong[0]!r} is no hash of a spot")


def to_mark(taken: Print) -> Mark:
    """Return what a model remembers of a section whose spots were hashed on the model's genes."""
    image = "" if taken.image is None else base64.b64encode(taken.image.tobytes()).decode()
    spots = tuple(f"{h:016x}" for h in sketch(taken.spots))
    return Mark(section=taken.section, donor=taken.donor, n_spots=len(taken.spots), spots=spots, image=image)


def find_marked(prints: Sequence[Print], cohort: str, marks: Sequence[Mark]) -> list[Pair]:
    """Return the sections that show the tissue a model remembers, each with the remembered one.

    Parameters
    ----------
    prints
        Sections at hand, their spots hashed on the model's genes.
    cohort
        Id of the dataset that the model was trained on.
    marks
        Of its training sections.
    """
    nothing = np.zeros(0, dtype=np.uint64)
    remembered = [Print(cohort, m.section, m.donor, _to_image(m.image), nothing) for m in marks]
    found = find_pairs([replace(p, spots=nothing) for p in prints], remembered)
    for taken in prints:
        for mark, old in zip(marks, remembered, strict=True):
            share = sketch_share(tuple(int(h, 16) for h in mark.spots), mark.n_spots, taken.spots)
            if share >= MIN_SHARE and share * min(mark.n_spots, len(taken.spots)) >= MIN_SPOTS:
                found.append(Pair(taken, old, f"about {share:.0%} of the spots have the same counts"))
    return found


def _to_image(text: str) -> np.ndarray | None:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(SIDE_PX, SIDE_PX) if text else None


def _known(prints: Sequence[Print]) -> Iterator[tuple[int, int, str]]:
    at: dict[str, list[int]] = {}
    for i, p in enumerate(prints):
        if p.cohort in load_catalogue():  # two users may well call their cohorts and sections alike
            at.setdefault(p.name, []).append(i)
    for same in at.values():
        yield from ((i, j, "they have one id in the catalogue") for i, j in combinations(same, 2))
    for group in find_same_tissue():
        members = sorted((i, name) for name in group for i in at.get(name, ()))
        pairs = combinations(members, 2)
        yield from ((i, j, "the catalogue says so") for (i, one), (j, other) in pairs if one != other)


def _by_spots(prints: Sequence[Print]) -> Iterator[tuple[int, int, str]]:
    hashes = np.concatenate([p.spots for p in prints] or [np.zeros(0, np.uint64)])
    owner = np.repeat(np.arange(len(prints)), [len(p.spots) for p in prints])
    order = np.argsort(hashes, kind="stable")
    _, first, count = np.unique(hashes[order], return_index=True, return_counts=True)
    repeated = [owner[order[a : a + n]].tolist() for a, n in zip(first[count > 1], count[count > 1], strict=True)]
    for i, j in sorted({pair for owners in repeated for pair in combinations(owners, 2)}):
        one, other = prints[i].spots, prints[j].spots
        share = shared_share(one, other)
        n = round(share * min(len(one), len(other)))
        if n >= MIN_SPOTS and share >= MIN_SHARE:
            yield i, j, f"{n} spots ({share:.0%} of the smaller section) have the same counts"


def _by_image(prints: Sequence[Print]) -> Iterator[tuple[int, int, str]]:
    hashed = [(i, p.image) for i, p in enumerate(prints) if p.image is not None]
    for i, j, alike in like_pairs([image for _, image in hashed]):
        yield hashed[i][0], hashed[j][0], f"their images show the same tissue (likeness {alike:.2f})"


def find_twins(cohort: Cohort) -> list[Pair]:
    """Return the pairs of a cohort's sections that are one by the counts of their spots; images are not read."""
    return find_pairs([take_print(s, cohort.card.id, with_image=False) for s in cohort])


def check_apart(twins: list[Pair], fold: str, train: Cohort, test: Cohort, *, by_donor: bool) -> None:
    """Refuse a fold with one tissue on both sides.

    Parameters
    ----------
    twins
        From ``find_twins``.
    fold
        Its name, for the message.
    train, test
        The sides.
    by_donor
        Whether donors are held out, so that giving both sections one donor would help.

    Raises
    ------
    LeakageError
        If a pair has a section on either side.
    """
    left, right = {s.id for s in train}, {s.id for s in test}
    for pair in twins:
        ids = {pair.one.section, pair.other.section}
        if ids & left and ids & right:
            one_donor = ", or give both one donor" if by_donor else ""
            raise LeakageError(
                f"fold {fold}: sections {pair.one.section} (donor {pair.one.donor}) and {pair.other.section} "
                f"(donor {pair.other.donor}) are the same tissue ({pair.evidence}), one in train and one in test; "
                f"drop one of them{one_donor}"
            )

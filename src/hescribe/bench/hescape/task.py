"""A task of retrieval: folds of donors or a published split, and what is asked of the test spots of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

from hescribe.bench.hescape.protocol import RetrievalProtocol
from hescribe.bench.protocols import read_protocol
from hescribe.bench.task import Fold, PredictionTask, published_split
from hescribe.cards import TaskCard
from hescribe.data.cohort import Cohort
from hescribe.data.duplicates import check_apart, find_twins
from hescribe.metrics.pools import PoolKind
from hescribe.metrics.retrieval import Direction

BATCHES = "mini_batch"  # in place of a pool: the recall that was published
PUBLISHED = "published"  # name of the one fold of a published split


class Question(NamedTuple):
    """What the test spots are asked.

    Parameters
    ----------
    pool
        A pool of ``metrics.pools``, or ``"mini_batch"``.
    size
        Candidates asked for; 0: all there are.
    direction
        What asks, and what is found.
    without_depth
        Whether log depth was taken out of both sides.
    shift
        Strength of the batch shift of the test donors.
    """

    pool: PoolKind | str
    size: int
    direction: Direction
    without_depth: bool
    shift: float = 0.0

    def __str__(self) -> str:
        """Say it in words, as rows name it."""
        size = f"of {self.size}" if self.size else "of all"
        depth = ", without depth" if self.without_depth else ""
        shift = f", shifted {self.shift:g}" if self.shift else ""
        return f"{self.pool.replace('_', ' ')} {size}, {self.direction.replace('_', ' ')}{depth}{shift}"


@dataclass(frozen=True)
class RetrievalTask:
    """Find a spot by its image among expression, and by its expression among images.

    Parameters
    ----------
    base
        The cohort under a protocol of prediction, which prepares spots and genes.
    protocol
        Fixes folds and pools.
    """

    suite: ClassVar[str] = "hescape"
    base: PredictionTask
    protocol: RetrievalProtocol

    @classmethod
    def of(cls, cohort: Cohort, protocol: RetrievalProtocol, n_not_read: int = 0) -> "RetrievalTask":
        """Return the task on a cohort, of which ``n_not_read`` sections without an image were not even read."""
        rule = replace(read_protocol("donor-v1"), min_counts=protocol.min_counts)
        rule = replace(rule, n_genes=protocol.n_genes or len(cohort.genes))
        return cls(PredictionTask(cohort, rule, n_not_read), protocol)

    @classmethod
    def read(cls, path: Path, protocol: RetrievalProtocol) -> "RetrievalTask":
        """Return the task on a cohort folder, of which only the sections with an image are read."""
        base = PredictionTask.read(path, read_protocol("donor-v1"))
        return cls.of(base.cohort, protocol, base.n_not_read)

    @property
    def name(self) -> str:
        """Name of the task in reports; rows add what was asked."""
        return f"align:{self.base.cohort.card.id}"

    def name_of(self, question: Question) -> str:
        """Return the name in rows of one question."""
        return f"{self.name}, {question}"

    @property
    def card(self) -> TaskCard:
        """What a reader of the scores must know."""
        rule = self.protocol
        return replace(
            self.base.card, name=self.name, protocol=rule.name, revision=rule.revision, optimistic=rule.optimistic
        )

    @property
    def rules(self) -> dict[str, Any]:
        """The protocol, field by field."""
        return self.protocol.model_dump(mode="json")

    @cached_property
    def data_hash(self) -> str:
        """Hash of everything the scores depend on in the data."""
        return self.base.data_hash

    def folds(self) -> Iterator[Fold]:
        """Yield the fold of the published split where the protocol asks for it and there is one, else one a donor.

        Raises
        ------
        InputError
            If there is only one donor.
        LeakageError
            If a donor is on both sides.
        """
        split = published_split(self.base.prepared) if self.protocol.split == PUBLISHED else None
        if split is None:
            yield from self.base.folds(panel=self._panel)
            return
        genes = self._panel or self.base.choose_genes(split[0])
        check_apart(find_twins(self.base.prepared), PUBLISHED, split[0], split[1], by_donor=True)
        train, test = (self.base.on_panel(side, genes) for side in split[:2])
        yield Fold(PUBLISHED, train, test, self.base.protocol, split[2] and self.base.on_panel(split[2], genes))

    @property
    def _panel(self) -> tuple[str, ...] | None:
        """All genes in the order of their names, if the protocol chooses none."""
        return None if self.protocol.n_genes else tuple(sorted(self.base.cohort.genes))


def questions(protocol: RetrievalProtocol) -> list[Question]:
    """Return everything that a protocol asks.

    Examples
    --------
    >>> from hescribe.bench.hescape.protocol import read_retrieval_protocol
    >>> print(*questions(read_retrieval_protocol("hescape-2025")), sep="; ")
    mini batch of 64, image to expression; mini batch of 64, expression to image
    """
    ways: tuple[Direction, ...] = get_args(Direction)
    batches = [Question(BATCHES, 64, way, without_depth=False) for way in ways if protocol.n_devices]
    pools = [
        Question(pool, size, way, without_depth)
        for without_depth in (False, True)
        for pool in protocol.pools
        for size in protocol.sizes
        for way in ways
    ]
    return [*batches, *pools, *(q for strength in protocol.strengths for q in within_section(strength))]


def within_section(shift: float = 0.0) -> list[Question]:
    """Return what is asked of a section alone, in both directions, at a strength of the batch shift."""
    return [Question("within_section", 0, way, without_depth=False, shift=shift) for way in get_args(Direction)]

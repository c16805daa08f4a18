"""How long a piece of work takes on given machines, by measured costs; what was not measured is said, not guessed."""

from collections.abc import Sequence
from dataclasses import dataclass

from hescribe.encode.base import create_encoder
from hescribe.errors import InputError
from hescribe.launch.costs import CORE, Cost, Work, resolve_encoder

FEATURE_BYTES = 4  # float32 on disk
PAIR_BYTES = 2  # float16 in shards
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What the work is spread over.

    Parameters
    ----------
    n_cores, n_gpus
        In all.
    gpu
        Name of the GPU as in a cost; empty takes any that was measured.
    """

    n_cores: int = 1
    n_gpus: int = 0
    gpu: str = ""

    def __post_init__(self) -> None:
        if self.n_cores < 1 or self.n_gpus < 0:
            raise InputError(f"a plan needs at least one core, and no fewer than 0 GPUs; got {self}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of work of a plan.

    Parameters
    ----------
    name, n
        What is done, and how often.
    on
        What it is spread over, in words.
    hours
        None where its cost was not measured.
    terabytes
        What it leaves on disk; None where it leaves nothing.
    note
        Where the cost was measured, or what to do if it was not.
    """

    name: str
    n: float
    on: str
    hours: float | None
    terabytes: float | None
    note: str


@dataclass(frozen=True)
class Planner:
    """Says what work takes on machines, at known costs.

    Parameters
    ----------
    machines, costs
        Of several costs of one thing the first is taken.
    """

    machines: Machines
    costs: Sequence[Cost]

    def slides(self, n_slides: int, n_tiles: int, encoder: str) -> list[Stage]:
        """Return what embedding takes: cores read tiles, and GPUs encode them, or without one the cores.

        Parameters
        ----------
        n_slides, n_tiles
            Slides, and tiles of each.
        encoder
            As in ``hescribe embed``, or the name of a card.

        Raises
        ------
        UnknownNameError
            If there is no such encoder.
        """
        name = resolve_encoder(encoder)
        card = create_encoder(name).card
        n = _count("slides", n_slides) * _count("tiles", n_tiles) * len(card.fov_um)  # a patch for each width
        stored = n * card.n_dims * FEATURE_BYTES / 1e12
        return [
            self._stage("read patches", n, ("read", ""), on_gpu=False),
            self._stage("encode patches", n, ("encode", name), on_gpu=self.machines.n_gpus > 0, terabytes=stored),
        ]

    def pairs(self, n_pairs: int, n_epochs: int, aligner: str, n_dims: int) -> list[Stage]:
        """Return what training on pairs from disk takes, of ``n_dims`` numbers of each side."""
        n = _count("pairs", n_pairs) * _count("epochs", n_epochs)
        stored = n_pairs * 2 * n_dims * PAIR_BYTES / 1e12
        on_gpu = self.machines.n_gpus > 0
        return [self._stage("learn pairs", n, ("pair", aligner), on_gpu=on_gpu, terabytes=stored)]

    def cells(self, n_cells: int, model: str) -> list[Stage]:
        """Return what a benchmark takes: a cell is fitted and scored on one core."""
        return [self._stage("run cells", _count("cells", n_cells), ("cell", model), on_gpu=False)]

    def _stage(
        self, name: str, n: float, what: tuple[Work, str], *, on_gpu: bool, terabytes: float | None = None
    ) -> Stage:
        count = self.machines.n_gpus if on_gpu else self.machines.n_cores
        device = self.machines.gpu or "GPU" if on_gpu else CORE
        on = f"{count} {device}{'' if count == 1 else 's'}"
        cost = next((c for c in self.costs if (c.work, c.of) == what and _runs_on(c, device)), None)
        if cost is None:
            note = f"{' '.join(what)} on a {device}"
            if what[0] == "encode":
                note += f"; run hescribe plan --encoder {what[1]} --measure on such a machine"
            return Stage(name=name, n=n, on=on, hours=None, terabytes=terabytes, note=f"not measured: {note}")
        note = f"{1000 * cost.seconds:.3g} ms each ({cost.measured})"
        hours = n * cost.seconds / count / HOUR
        return Stage(name=name, n=n, on=on, hours=hours, terabytes=terabytes, note=note)


def bottleneck(stages: Sequence[Stage]) -> str:
    """Return in words what decides how long it takes: the longest stage, or what was not measured."""
    unknown = [s.name for s in stages if s.hours is None]
    if unknown:
        return f"not known: {' and '.join(unknown)} not measured"
    return max(stages, key=lambda s: s.hours or 0.0).name


def total_hours(stages: Sequence[Stage]) -> float | None:
    """Return the hours of all stages: those on the same machines one after the other, else side by side."""
    if any(s.hours is None for s in stages):
        return None
    by_machines: dict[str, float] = {}
    for s in stages:
        by_machines[s.on] = by_machines.get(s.on, 0.0) + (s.hours or 0.0)
    return max(by_machines.values())


def _runs_on(cost: Cost, device: str) -> bool:
    return cost.device == device or (device == "GPU" and cost.device != CORE)


def _count(name: str, n: int) -> int:
    if n < 1:
        raise InputError(f"a plan needs at least one of {name}, got {n}")
    return n

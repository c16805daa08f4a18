"""Score aligners: one aligner on one fold with one seed is a cell, with every question of the protocol as rows."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from hescribe import __version__
from hescribe.align.base import Aligner, aligners, to_pairs
from hescribe.bench.aligned import (
    DensityOnly,
    DepthEncoder,
    RidgeRetriever,
    ShuffledPairsAligner,
    fit_on_fold,
    pairs_of,
)
from hescribe.bench.components import create_component
from hescribe.bench.hescape.task import BATCHES, Question, RetrievalTask
from hescribe.bench.model_names import split_params
from hescribe.bench.runner import device_name, spread_cells
from hescribe.bench.runs import Cell, CellResult
from hescribe.bench.shifted import shift_test
from hescribe.bench.store import SCHEMA_VERSION, Row
from hescribe.bench.task import Fold
from hescribe.data.batch_shift import BatchShift
from hescribe.errors import InputError, UnknownNameError
from hescribe.memory import peak_mb
from hescribe.metrics.pairs import Pairs
from hescribe.metrics.retrieval import HESCAPE_BATCH, Direction, RetrievalScore, hescape_recall, score_retrieval
from hescribe.predict.ridge import RidgePredictor

BATCH_KS = (1, 5, 10)
# What is no aligner: made from an encoder and a gene encoder, of which each takes what it reads.
CONTROLS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ridge_retriever": lambda given: RidgeRetriever(ridge=RidgePredictor().with_params(**_part(given, "encoder"))),
    "density_only": lambda given: DensityOnly(**_part(given)),
    "untrained": lambda given: create_component(aligners, "infonce", {**_all_but(given, "epochs"), "epochs": 0}),
    "shuffled_pairs": lambda given: ShuffledPairsAligner(base=create_component(aligners, "infonce", given)),
    "depth_only": lambda given: create_component(
        aligners, "infonce", {**_part(given, "encoder"), "gene_encoder": DepthEncoder()}
    ),
}
BOTH = ("encoder", "gene_encoder")
READS = {
    "ridge_retriever": ("encoder",), "density_only": (), "untrained": BOTH, "shuffled_pairs": BOTH,
    "depth_only": ("encoder",),
}  # fmt: skip


def name_entrants(models: Sequence[str], encoders: Sequence[str], gene_encoders: Sequence[str]) -> tuple[str, ...]:
    """Return every model with every encoder and gene encoder that it reads, by the names cells have.

    A model that names an encoder itself is not crossed with others: ``"infonce:encoder=color"``. Parameters of a gene
    encoder become those that the model holds behind a dot.

    Examples
    --------
    >>> name_entrants(("density_only", "infonce"), ("color",), ("pca", "mlp"))
    ('density_only', 'infonce:encoder=color:gene_encoder=pca', 'infonce:encoder=color:gene_encoder=mlp')
    >>> name_entrants(("infonce",), ("color",), ("pca:n_dims=4",))
    ('infonce:encoder=color:gene_encoder=pca:gene_encoder.n_dims=4',)
    """
    choices = {"encoder": encoders, "gene_encoder": gene_encoders}
    found: dict[str, None] = {}
    for model in models:
        method, own = split_params(model)
        axes = [a for a in (READS[method] if method in READS else _axes(method)) if a not in own]
        for values in product(*(choices[a.rpartition(".")[2]] for a in axes)):
            found[":".join([model, *map(_name_held, axes, values)])] = None
    return tuple(found)


def _name_held(axis: str, name: str) -> str:
    """Return a component, with parameters behind colons, as the parameter of what holds it."""
    kind, _, params = name.partition(":")
    return ":".join([f"{axis}={kind}", *(f"{axis}.{p}" if "=" in p else p for p in params.split(":") if p)])


def _axes(method: str) -> tuple[str, ...]:
    _check_known(method)
    params = aligners.create(method).get_params()  # type: ignore[attr-defined]
    held = tuple(f"{k}.gene_encoder" for k, v in params.items() if isinstance(v, dict) and "gene_encoder" in v)
    return (*(a for a in BOTH if a in params), *held)  # a mixture reads by the gene encoder of its aligner


def create_entrant(name: str) -> Any:
    """Return an aligner or a control by name, with parameters behind colons.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    InputError
        If a parameter is none of its own.

    Examples
    --------
    >>> create_entrant("infonce:gene_encoder=pca:gene_encoder.n_dims=4").gene_encoder.n_dims
    4
    """
    method, given = split_params(name)
    if method in CONTROLS:
        return CONTROLS[method](given)
    _check_known(method)
    return create_component(aligners, method, given)


def _check_known(method: str) -> None:
    if method not in aligners:
        raise UnknownNameError(f"there is no aligner {method!r}; known: {', '.join([*aligners, *CONTROLS])}")


def is_control(name: str) -> bool:
    """Return whether a model is one that aligners are judged by, and is none itself."""
    return name.partition(":")[0] in CONTROLS


def plan_retrieval(task: RetrievalTask, names: Sequence[str], seeds: Sequence[int] = (0,)) -> list[Cell]:
    """Return every cell of a study: folds by models by seeds; one without a seed runs once.

    Raises
    ------
    LeakageError
        If an encoder was trained on the cohort.
    """
    created = [(name, create_entrant(name)) for name in names]
    return spread_cells(task, created, seeds, cohort=task.base.cohort, rules=task.rules)


def score_cell(task: RetrievalTask, cell: Cell) -> CellResult:
    """Fit an aligner on the fold's train donors and ask every question of the protocol of its test spots.

    Raises
    ------
    LeakageError
        If an encoder was trained on the test donors.
    InputError
        If the aligner gives values that are not finite, or see the aligner.
    """
    start = time.perf_counter()
    fitted = fit_on_fold(cell.model, cell.fold)
    pairs, asking = pairs_of(fitted, cell.fold)
    seconds = time.perf_counter() - start
    context = {
        "protocol": task.protocol.name, "revision": task.protocol.revision, "fold": cell.fold.name,
        "model": cell.name, "method": cell.model.name, "params": json.dumps(cell.model.get_params(), sort_keys=True),
        "control": "control" if is_control(cell.name) else "", "seed": cell.seed, "gene": "", "ceiling": float("nan"),
        "version": __version__, "data_hash": task.data_hash, "schema_version": SCHEMA_VERSION, "device": device_name(),
        "seconds": seconds, "peak_mb": peak_mb(),
    }  # fmt: skip
    rows = [*_ask_pools(task, pairs, asking, context), *_ask_batches(task, pairs, asking, context)]
    return CellResult([*rows, *_ask_shifted(task, fitted, cell.fold, context)], {})


def _ask_pools(task: RetrievalTask, pairs: Pairs, asking: np.ndarray, context: dict[str, Any]) -> Iterator[Row]:
    rule = task.protocol
    if not rule.pools:
        return
    for without_depth in (False, True):
        scores = score_retrieval(
            pairs, pools=rule.pools, sizes=[s or None for s in rule.sizes], asking=asking, without_depth=without_depth
        )
        yield from (_row(task, x, context) for x in scores)


def _ask_shifted(task: RetrievalTask, fitted: Aligner, fold: Fold, context: dict[str, Any]) -> Iterator[Row]:
    """Yield what test donors find within their sections as their batch shifts away."""
    for strength in task.protocol.strengths:
        test = shift_test(fold, BatchShift.of(strength, task.protocol.shifts))
        scores = score_retrieval(to_pairs(fitted, test), pools=("within_section",), sizes=(None,))
        yield from (_row(task, x, context, shift=strength) for x in scores)


def _row(task: RetrievalTask, x: RetrievalScore, context: dict[str, Any], *, shift: float = 0.0) -> Row:
    question = Question(x.pool, x.asked_size or 0, x.direction, x.without_depth, shift)
    is_defined = bool(np.isfinite(x.value))
    return Row(
        **context, task=task.name_of(question), section=x.section, donor=x.donor, metric=x.metric, value=x.value,
        chance=x.chance, pool_size=x.pool_size, n_defined=x.n_queries * is_defined,
        n_undefined=x.n_queries * (not is_defined),
    )  # fmt: skip


def _ask_batches(task: RetrievalTask, pairs: Pairs, asking: np.ndarray, context: dict[str, Any]) -> Iterator[Row]:
    n_devices = task.protocol.n_devices
    if not n_devices:
        return
    ways: tuple[Direction, Direction] = ("image_to_expression", "expression_to_image")
    for section in np.unique(pairs.section[asking]):
        rows = np.flatnonzero((pairs.section == section) & asking)
        image, expression = pairs.image[rows], pairs.expression[rows]
        for k in BATCH_KS:
            found = hescape_recall(image, expression, k, n_devices=n_devices)
            chance = hescape_recall(image * 0, expression * 0, k, n_devices=n_devices)  # all candidates alike
            for way, value, by_chance in zip(ways, found, chance, strict=True):
                yield Row(
                    **context, task=task.name_of(Question(BATCHES, HESCAPE_BATCH, way, without_depth=False)),
                    section=str(section), donor=str(pairs.donor[rows[0]]), metric=f"recall_at_{k}", value=value,
                    chance=by_chance, pool_size=min(HESCAPE_BATCH, -(-len(rows) // n_devices)), n_defined=len(rows),
                    n_undefined=0,
                )  # fmt: skip


def _part(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the parameters of some names; others are refused."""
    if unknown := sorted(set(given) - set(names)):
        raise InputError(f"this control has no parameter {unknown[0]!r}; it has {', '.join(names) or 'none'}")
    return given


def _all_but(given: dict[str, Any], name: str) -> dict[str, Any]:
    if name in given:
        raise InputError(f"this control has no parameter {name!r}: it is what makes it one")
    return given

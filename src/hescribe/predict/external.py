"""Predictions that another tool made, scored on our folds like a predictor.

A folder holds an h5ad a section, named after it: spots by genes, in ``layers["predicted"]`` or else in ``X``; and
``predictions.toml``, which says on which donors the tool was trained. Spots go by barcode, genes by name.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from anndata import AnnData
from pydantic import Field
from scipy import sparse

from hescribe import keys
from hescribe.cards import MethodCard
from hescribe.data.cohort import Cohort
from hescribe.data.h5ad import read_h5ad
from hescribe.data.section import Section
from hescribe.data.toml_file import Record, read_toml
from hescribe.errors import DataAccessError, FormatError, InputError, LeakageError, PanelError
from hescribe.params import Params
from hescribe.predict.base import Prediction

FACTS = "predictions.toml"
N_NAMED = 3  # spots or genes named in a message


class ToolFacts(Record):
    """What a folder of predictions says of the tool that made them.

    Parameters
    ----------
    tool
        Its name and version.
    train_donors
        Donors of the cohort that it was trained on, for every section; empty if none of them.
    train_donors_of
        The same by section, where there was a fit for each fold.
    unit
        ``"lognorm"``: ln(1 + 1e4 * count / depth); ``"other"``: only scores that do not depend on the unit are taken.
    """

    tool: Annotated[str, Field(min_length=1)]
    train_donors: tuple[str, ...] | None = None
    train_donors_of: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    unit: Literal["lognorm", "other"] = "other"


@dataclass(kw_only=True)
class ExternalPredictor(Params):
    """What another tool predicted. Nothing is fitted but the train mean of each gene, which may fill gaps.

    Parameters
    ----------
    folder
        Of the predictions.
    gaps
        ``"refuse"``: the spots must be those of the section, and all genes of the panel there. ``"mean"``: a gene or a
        spot that is missing is the train mean, which counts against the tool; spots of no section are left out.
    content
        Hash of the folder; taken when it is empty, so that changed files are scored anew.
    """

    name: ClassVar[str] = "external"
    card: ClassVar[MethodCard] = MethodCard(summary="predictions of another tool, from a folder of h5ad files")
    folder: str = ""
    gaps: Literal["refuse", "mean"] = "refuse"
    content: str = ""

    def __post_init__(self) -> None:
        if self.folder and not self.content:
            self.content = _hash(Path(self.folder))

    @property
    def facts(self) -> ToolFacts:
        """What the folder says of the tool."""
        return read_toml(self._place(FACTS), ToolFacts)

    @property
    def scale_free(self) -> bool:
        """Whether the unit of the predictions means nothing."""
        return self.facts.unit != "lognorm"

    def fit(self, train: Cohort, *, val: Cohort | None = None) -> Self:  # noqa: ARG002 - nothing to choose
        """Learn the mean of each gene."""
        self.genes_, self.mean_ = train.genes, train.stack(keys.TARGET).mean(axis=0)
        return self

    def predict(self, section: Section) -> Prediction:
        """Return what the tool predicted for a section.

        Raises
        ------
        LeakageError
            If the tool was trained on the donor of the section.
        DataAccessError
            If there is no prediction of it.
        FormatError
            If its file is damaged, names a spot or a gene twice, or holds a value that is not finite.
        InputError
            If nothing says on whom the tool was trained, or the spots are others.
        PanelError
            If genes are missing.
        """
        self.check_fitted()
        self._check_donor(section)
        path = self._place(f"{section.id}.h5ad")
        table = _read(path)
        spots, genes = section.table.obs_names, self.genes_
        row, column = table.obs_names.get_indexer(spots), table.var_names.get_indexer(list(genes))
        if self.gaps == "refuse":
            _check_same(path, section, table, row)
            if lacking := [g for g, c in zip(genes, column, strict=True) if c < 0]:
                raise PanelError(f"{path} lacks {_name(lacking, 'gene')} of the panel; {_how_to_fill()}")
        found = np.ix_(row >= 0, column >= 0)
        if not found[0].size or not found[1].size:
            raise InputError(f"{path} has no spot or no gene in common with section {section.id} and the panel")
        mean = np.tile(self.mean_, (len(spots), 1)).astype(np.float64)
        mean[found] = _values(table, row[row >= 0], column[column >= 0], path)
        filled = 1 - found[0].size * found[1].size / mean.size
        return Prediction(mean, genes, filled=filled if self.gaps == "mean" else None)

    def _check_donor(self, section: Section) -> None:
        facts = self.facts
        donors = facts.train_donors_of.get(section.id, facts.train_donors)
        place = self._place(FACTS)
        if donors is None:
            raise InputError(
                f"{place} does not say which donors the prediction of section {section.id} was trained on; "
                "add train_donors, an empty list if none of this cohort"
            )
        if section.donor in donors:
            raise LeakageError(
                f"{facts.tool} was trained on donor {section.donor} of section {section.id}, as {place} says: "
                "its scores there would be too good; predict with a fit that left the donor out"
            )

    def _place(self, name: str) -> Path:
        """Return the path of a file of the folder, which must be there."""
        if not self.folder:
            raise InputError("external needs the folder of the predictions: external:folder=PREDICTIONS")
        path = Path(self.folder) / name
        if not path.is_file():
            raise DataAccessError(f"{path} is missing; a folder of predictions holds {FACTS} and an h5ad each section")
        return path


def _read(path: Path) -> AnnData:
    table = read_h5ad(path, "is no readable h5ad")
    for what, names in (("spot", table.obs_names), ("gene", table.var_names)):
        if not names.is_unique:
            raise FormatError(f"{path} holds {what} {names[names.duplicated()][0]} twice")
    if table.X is None and keys.PREDICTED not in table.layers:
        raise FormatError(f"{path} holds no prediction: neither a layer {keys.PREDICTED!r} nor X")
    return table


def _values(table: AnnData, row: np.ndarray, column: np.ndarray, path: Path) -> np.ndarray:
    """Return predicted values of some spots and genes, dense and finite."""
    layer = table.layers.get(keys.PREDICTED, table.X)
    values = layer[row][:, column]
    values = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
    if not np.isfinite(values).all():
        r, c = np.argwhere(~np.isfinite(values))[0]
        spot, gene = table.obs_names[row[r]], table.var_names[column[c]]
        raise FormatError(f"{path} predicts a value that is not finite, of gene {gene} in spot {spot}")
    return values


def _check_same(path: Path, section: Section, table: AnnData, row: np.ndarray) -> None:
    """Raise ``InputError`` unless a prediction has the spots of its section, and no other."""
    lacking = list(section.table.obs_names[row < 0])
    strange = [s for s in table.obs_names if s not in section.table.obs_names]
    if lacking or strange:
        found = [f"lacks {_name(lacking, 'spot')}"] if lacking else []
        found += [f"has {_name(strange, 'spot')} that the section has not"] if strange else []
        raise InputError(f"{path} {' and '.join(found)} (section {section.id}); {_how_to_fill()}")


def _how_to_fill() -> str:
    return "predict them too, or score with gaps=mean, where the train mean stands for what is missing"


def _name(names: list[str], word: str) -> str:
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return f"{len(names)} {word}{'' if len(names) == 1 else 's'} ({', '.join(names[:N_NAMED])}{more})"


def _hash(folder: Path) -> str:
    """Return a hash of the files of a folder."""
    if not folder.is_dir():
        raise DataAccessError(f"{folder} is no folder of predictions; it holds {FACTS} and an h5ad for each section")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".h5ad", ".toml"}):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]

"""SpaRED's preparation as fit and transform: fitted on all sections as published, or on train alone.

Mejia et al., Enhancing Gene Expression Prediction from Histology Images with Spatial Transcriptomics
Completion, MICCAI 2024, arXiv:2407.13027: spots and genes are filtered, counts become log2(1 + TPM),
zeros are filled by the adaptive median filter, genes are ranked by Moran's I, batches are corrected
by ComBat, and the train mean is taken off. We differ:

- ``fitted_on="train"`` keeps gene choice, Moran's I and ComBat from the held-out sections, which
  SpaRED's pipeline sees;
- neighbours are the spots that touch. SpaRED takes the six nearest of a hexagonal array however far
  they are, so that values at the border of the tissue, and beside gaps, are filled from other spots;
- genes stand in descending order of Moran's I, equal ones by name. SpaRED's order before that
  ranking is that of a Python set, and changes from run to run.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self, overload

import numpy as np

from hescribe import keys
from hescribe.data.cohort import Cohort
from hescribe.data.gene_names import organism_of
from hescribe.data.gene_table import find_gene_table, read_gene_table
from hescribe.data.section import Section
from hescribe.errors import InputError, UnknownNameError
from hescribe.params import Params
from hescribe.prep.batch import Combat
from hescribe.prep.denoise import N_HOPS
from hescribe.prep.moran import morans_i
from hescribe.prep.spared_genes import Shares, listed_genes, measured_genes, top_of, valid_spots
from hescribe.prep.spared_layers import Panels, fill, train_means, with_deltas
from hescribe.prep.tpm import find_lengths
from hescribe.progress import track

RECIPES: dict[str, dict[str, str | bool]] = {
    "spared-2024": {"fitted_on": "all", "legacy_combat": True},  # as published, for comparison with published scores
    "spared-train": {"fitted_on": "train"},
}
CORRECTED = {keys.LOG1P: keys.C_LOG1P, keys.D_LOG1P: keys.C_D_LOG1P}  # what ComBat makes of what


@dataclass(kw_only=True)
class SparedPreparation(Params):
    """Layers of SpaRED for the sections of a cohort.

    Parameters
    ----------
    fitted_on
        What gene choice, Moran's I and ComBat see: ``"train"``, or ``"all"`` sections of the cohort that
        is fitted, held-out ones too, as published. Means of deltas are those of the train sections in both.
    min_spot_counts, max_spot_counts
        A spot is used if its counts lie strictly between (F1).
    min_gene_counts, max_gene_counts
        A gene is used if its counts over all spots lie strictly between (F3).
    min_measured
        Mean share of spots with a count that the retained genes keep (F3).
    wildcard_genes
        Genes to retain in place of F3.
    lengths
        ``"spared"``: genes without a length are left out, those of the mitochondrial chromosome too, as
        the list that SpaRED uses has none of it; ``"all"``: these stay; ``"none"``: counts per million.
    gene_table
        File of lengths, see ``read_gene_table``; None: the frozen table of the organism.
    n_hops
        Widest window of the adaptive median filter, in steps from spot to touching spot (P4).
    n_genes
        Genes of highest Moran's I that are kept; 0: 128 of more than 320, else 32 (P6).
    allow_fewer
        Keep all genes that pass where they are fewer than ``n_genes``, in place of an error.
    batch
        What ComBat brings together: ``"donor"``, ``"section"`` or ``"none"`` (P7).
    legacy_combat
        Compute what the package that SpaRED uses computes, see ``Combat``.
    correct_new_batch
        Whether a batch that the fit has not seen is corrected by its own expression. That reads what a
        prediction of it is scored on; without it, such a batch is left as it is.

    Notes
    -----
    Gaps of a section, held out or not, are filled from that section's own spots: what stands where
    ``mask`` is false is not measured, and nothing is scored there. Where it is true, a held-out value
    depends on its own spot's counts and on the train sections alone, unless ``uses_truth``.
    """

    name: ClassVar[str] = "spared"
    fitted_on: Literal["all", "train"] = "train"
    min_spot_counts: float = 10
    max_spot_counts: float = 1e6
    min_gene_counts: float = 10
    max_gene_counts: float = 1e6
    min_measured: float = 0.7
    wildcard_genes: tuple[str, ...] = ()
    lengths: Literal["spared", "all", "none"] = "spared"
    gene_table: str | None = None
    n_hops: int = N_HOPS
    n_genes: int = 0
    allow_fewer: bool = False
    batch: Literal["donor", "section", "none"] = "donor"
    legacy_combat: bool = False
    correct_new_batch: bool = False

    @property
    def uses_truth(self) -> bool:
        """True if a held-out section's expression enters what its predictions are scored on."""
        return self.fitted_on == "all" or self.correct_new_batch

    def fit(self, cohort: Cohort, *, train: Collection[str] | None = None) -> Self:
        """Choose the genes, and learn batch effects and means.

        Parameters
        ----------
        cohort
            Sections with counts, as an import gives them.
        train
            Ids of the train sections; None: all.

        Raises
        ------
        InputError
            If a parameter is out of range, a train section is not in the cohort, the cohort was prepared
            already, a section has no valid spot, no genes pass, or ComBat finds one batch only.
        PanelError
            If a listed gene is not on the panel.
        """
        self._check_params()
        if any(keys.D_LOG1P_MORAN in s.table.var for s in cohort):
            raise InputError(
                f"cohort {cohort.card.id} was prepared already: it holds the genes that were kept, and transcripts per "
                "million need all; prepare the cohort that it was made of"
            )
        trained = _named(cohort, train)
        seen = tuple(cohort) if self.fitted_on == "all" else trained
        self._check_batches(seen)
        names = cohort.genes
        shares = Shares.of((s, self._valid(s)) for s in track(seen, "counting genes"))
        passed = self._pass(names, shares)
        lengths = self._find_lengths(cohort)
        retained = [i for i in passed if names[i] in lengths]
        if not retained:
            raise InputError(
                f"none of the {len(passed)} genes that pass has a length; is the gene table of this organism?"
            )
        retained_genes = tuple(names[i] for i in retained)
        length_bp = np.array([lengths[g] for g in retained_genes])
        panels = Panels(tuple(names[i] for i in passed), retained_genes, length_bp)
        moran = _mean_defined([self._moran(panels, s) for s in track(seen, "ranking genes")])
        n_genes = min(self.n_genes, len(retained)) if self.allow_fewer else self.n_genes
        best = top_of(retained_genes, moran, n_genes)
        chosen = [retained[i] for i in best]
        self.panels_ = replace(panels, genes=tuple(names[i] for i in chosen))
        self.facts_ = {
            keys.EXP_FRAC: shares.lowest[chosen],
            keys.GLOB_EXP_FRAC: shares.overall[chosen],
            keys.D_LOG1P_MORAN: moran[best],
        }
        if self.lengths != "none":
            self.facts_[keys.GENE_LENGTH] = length_bp[best]
        self.measured_share_ = float(shares.overall[passed].mean())
        self.train_ = tuple(s.id for s in trained)
        self._learn(seen)
        return self

    @overload
    def transform(self, data: Section) -> Section: ...
    @overload
    def transform(self, data: Cohort) -> Cohort: ...
    def transform(self, data: Section | Cohort) -> Section | Cohort:
        """Return the data on the chosen genes and the valid spots, with SpaRED's layers.

        ``counts`` are those that came in. With ComBat, a batch that the fit has not seen keeps its
        values as they are in the layers ``c_...``, unless ``correct_new_batch``; give all sections of
        such a batch together then.

        Parameters
        ----------
        data
            A section or a cohort with counts of at least the genes that the fit retained.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        PanelError
            If a section lacks genes of the fit.
        InputError
            If no spot of a section is valid.
        """
        self.check_fitted()
        sections = (data,) if isinstance(data, Section) else tuple(data)
        plain = [self._with_log_layers(s) for s in track(sections, "preparing sections")]
        done = tuple(with_deltas(s, self.means_) for s in self._corrected(plain))
        if isinstance(data, Section):
            return done[0]
        card = replace(data.card, warnings=(*data.card.warnings, self._describe(sections)))
        return replace(data, sections=done, card=card)

    def choose(self, section: Section) -> tuple[Section, np.ndarray]:
        """Return the section on the chosen genes and valid spots, and each spot's counts over the retained genes.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        PanelError
            If the section lacks genes of the fit.
        InputError
            If no spot of it is valid.
        """
        self.check_fitted()
        return self.panels_.cut(section, self._valid(section))

    def to_log(self, section: Section, counts: np.ndarray) -> np.ndarray:
        """Return what other counts of the chosen genes would be in ``c_d_log1p``, or in ``d_log1p`` without ComBat.

        Parameters
        ----------
        section
            With counts of at least the retained genes: its totals and its batch are kept.
        counts
            Of the valid spots and chosen genes, shape ``(n_spots, n_genes)``, above 0; they need not be whole.

        Raises
        ------
        NotFittedError, PanelError, InputError
            As ``choose``.
        """
        cut, total = self.choose(section)
        table = cut.table.copy()
        table.layers[keys.COUNTS] = counts
        _, values = self.panels_.log1p(cut.with_table(table), total)
        label = self._label(section)
        if self.batch == "none" or label not in self.combat_[keys.D_LOG1P].batches_:
            return np.asarray(values)
        return np.asarray(self.combat_[keys.D_LOG1P].transform(values, np.full(len(values), label)))

    def new_batches(self, data: Cohort) -> tuple[str, ...]:
        """Return the batches of a cohort that ComBat has not seen in the fit, sorted."""
        self.check_fitted()
        if self.batch == "none":
            return ()
        known = self.combat_[keys.LOG1P].batches_
        return tuple(sorted({self._label(s) for s in data} - set(known)))

    def _check_params(self) -> None:
        self.check_between("min_measured", 0, 1)
        self.check_between("n_hops", 1)
        self.check_between("n_genes", 0)

    def _check_batches(self, seen: tuple[Section, ...]) -> None:
        labels = sorted({self._label(s) for s in seen})
        if self.batch != "none" and len(labels) < 2:
            other = "batch='section' or " if self.batch == "donor" and len(seen) > 1 else ""
            raise InputError(
                f"all sections that the fit sees are of {self.batch} {labels[0]}, and ComBat needs two batches to "
                f"compare; use {other}batch='none'"
            )

    def _label(self, section: Section) -> str:
        return section.id if self.batch == "section" else section.donor

    def _valid(self, section: Section) -> np.ndarray:
        return valid_spots(section, self.min_spot_counts, self.max_spot_counts)

    def _pass(self, genes: tuple[str, ...], shares: Shares) -> list[int]:
        if self.wildcard_genes:
            return listed_genes(genes, self.wildcard_genes)
        return measured_genes(genes, shares, (self.min_gene_counts, self.max_gene_counts), self.min_measured)

    def _find_lengths(self, cohort: Cohort) -> dict[str, float]:
        if self.lengths == "none":
            return dict.fromkeys(cohort.genes, 1.0)
        table = read_gene_table(Path(self.gene_table)) if self.gene_table else find_gene_table(organism_of(cohort))
        return find_lengths(cohort, table, mitochondrial=self.lengths == "all")

    def _moran(self, panels: Panels, section: Section) -> np.ndarray:
        """Return Moran's I of the filled log expression of every retained gene (P5)."""
        section, total = panels.cut(section, self._valid(section))
        _, log1p = panels.log1p(section, total)
        return morans_i(*fill(section, log1p, self.n_hops))

    def _with_log_layers(self, section: Section) -> Section:
        """Return the section on the chosen genes and valid spots, with the layers that need no batch (P1 to P4, P9)."""
        section, total = self.panels_.cut(section, self._valid(section))
        table = section.table
        tpm, log1p = self.panels_.log1p(section, total)
        table.layers[keys.TPM], table.layers[keys.LOG1P] = tpm, log1p
        table.layers[keys.D_LOG1P], _ = fill(section, log1p, self.n_hops)
        table.layers[keys.MASK] = tpm != 0
        for column, values in self.facts_.items():
            table.var[column] = values
        return section

    def _learn(self, seen: tuple[Section, ...]) -> None:
        """Fit ComBat on the log layers of the sections seen, and take the means of the train sections."""
        plain = [self._with_log_layers(s) for s in track(seen, "fitting batches and means")]
        layers = list(CORRECTED)
        if self.batch != "none":
            labels = np.repeat([self._label(s) for s in plain], [s.n_spots for s in plain])
            self.combat_ = {
                layer: Combat(legacy_combat=self.legacy_combat).fit(
                    np.concatenate([s.table.layers[layer] for s in plain]), labels
                )
                for layer in CORRECTED
            }
            layers += CORRECTED.values()
        trained = [s for s in self._corrected(plain) if s.id in self.train_]
        self.means_ = train_means(trained, layers)

    def _corrected(self, sections: list[Section]) -> list[Section]:
        """Return the sections with the layers of corrected batches, batch by batch (P7)."""
        if self.batch == "none":
            return sections
        tables = [s.table.copy() for s in sections]
        labels = np.array([self._label(s) for s in sections])
        for label in np.unique(labels):
            members = [tables[i] for i in np.flatnonzero(labels == label)]
            cuts = np.cumsum([t.n_obs for t in members])[:-1]
            for source, target in CORRECTED.items():
                values = np.concatenate([t.layers[source] for t in members])
                combat = self.combat_[source]
                if label in combat.batches_ or self.correct_new_batch:
                    values = combat.transform(values, np.full(len(values), label)).astype(np.float32)
                for table, part in zip(members, np.split(values, cuts), strict=True):
                    table.layers[target] = part
        return [s.with_table(t) for s, t in zip(sections, tables, strict=True)]

    def _describe(self, sections: tuple[Section, ...]) -> str:
        """Return one sentence on what the preparation saw, for the cohort's card."""
        held_out = sorted({s.id for s in sections} - set(self.train_))
        if not held_out:
            return "Prepared by spared: genes, batches and means were fitted on all of its sections; hold none out."
        if self.fitted_on == "all":
            return (
                f"Prepared by spared as published: gene choice, Moran's I and ComBat saw the held-out sections "
                f"{', '.join(held_out)} too, so that scores on them are optimistic."
            )
        truth = " ComBat of new batches read the expression of what is held out." if self.correct_new_batch else ""
        return f"Prepared by spared on train sections alone; held out: {', '.join(held_out)}.{truth}"


def find_recipe(name: str) -> SparedPreparation:
    """Return the preparation of a recipe, not fitted: ``spared-2024`` as published, ``spared-train`` on train alone.

    Raises
    ------
    UnknownNameError
        If there is no such recipe.

    Examples
    --------
    >>> find_recipe("spared-2024").uses_truth
    True
    """
    if name not in RECIPES:
        raise UnknownNameError(f"there is no recipe {name!r}; known: {', '.join(RECIPES)}")
    return SparedPreparation().with_params(**RECIPES[name])


def _named(cohort: Cohort, train: Collection[str] | None) -> tuple[Section, ...]:
    """Return the train sections, in the order of the cohort."""
    if train is None:
        return tuple(cohort)
    ids = {s.id for s in cohort}
    if unknown := sorted(set(train) - ids):
        raise InputError(f"cohort {cohort.card.id} has no section {unknown[0]!r}; it has {', '.join(sorted(ids))}")
    if not train:
        raise InputError("no train section is named; leave train out to fit on all")
    return tuple(s for s in cohort if s.id in set(train))


def _mean_defined(rows: list[np.ndarray]) -> np.ndarray:
    """Return the mean over sections of each gene where it is defined; NaN where it is nowhere."""
    values = np.stack(rows)
    n = np.isfinite(values).sum(axis=0)
    return np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)

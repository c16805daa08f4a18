"""``hescribe fit`` of an aligner: an encoder for any predictor, scored by retrieval on held-out donors."""

from pathlib import Path

from hescribe.cli.output import OUTPUT
from hescribe.cli.params import parse_params
from hescribe.errors import InputError

PREFIX = "aligner:"  # before a name that a predictor has too


def is_aligner(method: str) -> bool:
    """Return whether a method is an aligner: a name that no predictor has, or one behind ``aligner:``."""
    from hescribe.align.base import aligners  # noqa: PLC0415 - the command line starts fast
    from hescribe.predict.base import predictors  # noqa: PLC0415

    return method.startswith(PREFIX) or (method in aligners and method not in predictors)


def fit_aligner(
    method: str, cohort: Path, *, out: Path, protocol: str, genes: str, params: list[str] | None, overwrite: bool
) -> None:
    """Fit an aligner on all donors, write its folder and say how it finds held-out donors.

    Raises
    ------
    InputError
        If all genes are asked for: an aligner has no predictions to add them to.
    """
    from hescribe.align.base import aligners  # noqa: PLC0415 - the command line starts fast
    from hescribe.bench import aligner_folder  # noqa: PLC0415
    from hescribe.bench.components import create_component  # noqa: PLC0415
    from hescribe.bench.model_folder import ALIGNER_INDEX, check_target  # noqa: PLC0415
    from hescribe.bench.protocols import read_protocol  # noqa: PLC0415
    from hescribe.data.folder import read_cohort  # noqa: PLC0415
    from hescribe.prep.spared_genes import read_gene_list  # noqa: PLC0415
    from hescribe.train.dist import processes  # noqa: PLC0415

    check_target(out, overwrite=overwrite, index=ALIGNER_INDEX)
    if genes == "all":
        raise InputError("--genes all is for predictors; give an aligner a panel, or a file of genes")
    panel = None if genes == "panel" else read_gene_list(Path(genes))
    aligner = create_component(aligners, method.removeprefix(PREFIX), parse_params(params))
    data = read_cohort(cohort, with_image=True)
    with processes() as number:
        fitted = aligner_folder.fit_aligner(aligner, data, read_protocol(protocol), genes=panel)
    if number > 0:  # of several that torchrun started: one writes, and tells
        return
    aligner_folder.write_aligner(out, fitted, overwrite=overwrite)
    info = fitted.info
    facts = {
        "out": str(out), "method": info.method, "n_sections": info.n_sections, "n_genes": len(info.genes),
        "n_dims": info.n_dims, "auc": info.auc and info.auc.value,
        "auc_without_depth": info.auc_without_depth and info.auc_without_depth.value,
    }  # fmt: skip
    score = "not scored: one donor only"
    if info.auc and info.auc_without_depth:
        without = f"{info.auc_without_depth.value:.3f} without depth"
        score = f"AUC within sections of held-out donors {info.auc.value:.3f} ({without}); .5 is chance"
    OUTPUT.result(facts, f"{out}: {info.n_dims} dimensions; {score}")

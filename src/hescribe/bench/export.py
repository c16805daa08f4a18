"""Held-out predictions of a run as other tools read them: an h5ad a section, expression in ``X``, truth beside it."""

import json
from pathlib import Path

import pandas as pd
from anndata import AnnData

from hescribe import __version__, keys
from hescribe._support import write_whole_folder
from hescribe.bench.predicted import read_run, read_scored_cohort
from hescribe.bench.results import Results
from hescribe.data.h5ad import write_h5ad
from hescribe.data.toml_file import to_toml
from hescribe.errors import DataAccessError, InputError
from hescribe.predict.external import FACTS


def export_run(path: Path, out: Path, model: str | None = None) -> tuple[str, list[str]]:
    """Write what a model of a run predicted for sections that it had not seen, and return its name and the sections.

    ``X`` and ``layers["predicted"]`` are not both written: ``X`` holds the prediction, ``layers["target"]`` what was
    measured in the same unit, ``layers["counts"]`` the counts; ``obs["kept"]`` says which spots were scored. The folder
    is what ``external`` reads, so that the scores of the run come out again.

    Parameters
    ----------
    path
        Folder of the run.
    out
        Folder to write; must be new.
    model
        Its best predictor by default.

    Raises
    ------
    DataAccessError
        If ``out`` exists or cannot be written, or there is no run.
    InputError
        If the run kept no predictions of the model, or does not hold out donors.
    """
    if out.exists():
        raise DataAccessError(f"{out} exists; choose another name")
    results = Results(path)
    if results.protocol.split != "donor":
        raise InputError(f"protocol {results.protocol.name} holds out no donors; export a run of one such as donor-v1")
    name, found = read_run(path, model)
    donors = read_scored_cohort(results).donors
    with write_whole_folder(out) as tmp:
        for one in found:
            section = one.section
            table = AnnData(
                one.expression.astype("float32"),
                obs=pd.DataFrame({keys.KEPT: section.kept}, index=section.table.obs_names),
                var=pd.DataFrame(index=section.table.var_names),
                obsm={k: section.table.obsm[k] for k in (keys.SPATIAL, keys.SPATIAL_UM) if k in section.table.obsm},
                layers={k: section.table.layers[k] for k in (keys.TARGET, keys.COUNTS)},
                uns={"model": name, "donor": section.donor, "unit": one.unit},
            )
            write_h5ad(table, tmp / f"{section.id}.h5ad")
        of = {json.dumps(one.section.id): [d for d in donors if d != one.section.donor] for one in found}
        facts = {
            "tool": f"HEscribe {__version__}, {name}",
            "unit": "lognorm" if found[0].unit == "lognorm" else "other",
            "train_donors_of": of,
        }
        (tmp / FACTS).write_text(to_toml(facts), encoding="utf-8")
    return name, [one.section.id for one in found]

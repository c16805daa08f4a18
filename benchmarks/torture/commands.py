"""The commands that are tortured, what they read, and what is compared of what they write."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

MEASURED = re.compile(rb'"(seconds|peak_mb)": [-+.e0-9]+')
MEDIAN = ("--method", "adaptive_median", "--genes", "0", "--maps", "none")
AS_H5AD = ("--reader", "h5ad", "--mpp", "4", "--copy-images")
FEW_GENES = ("--genes", "4", "--set", "lengths=none")
SUITES = {
    "prediction": ("--models", "mean,position,color_ridge,depth_oracle"),
    "completion": ("--models", "mean,adaptive_median,knn"),
    "spared": ("--models", "mean,color_ridge", "--completers", "mean", "--protocol", "donor-v1"),
    "hescape": ("--encoders", "color", "--gene-encoders", "pca", "--models", "ridge_retriever,density_only"),
    "spade": ("--models", "knn", "--seeds", "0"),
}


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Parameters
    ----------
    name
        For the log.
    job
        Of a target: words of the command line, or a function.
    resumes
        Whether it goes on at a target that is there; else it refuses one that is whole.
    read
        Of a target: reads what the command wrote, and tells what is damaged.
    """

    name: str
    job: Callable[[Path], object]
    resumes: bool = False
    read: Callable[[Path], Callable[[], object]] | None = None


def write_inputs(root: Path) -> None:
    """Write what the commands read: a cohort, its sections apart, a model, a prediction, a run, and bags of slides."""
    import shutil

    from hescribe.bench.fitting import fit_model
    from hescribe.bench.model_folder import write_model
    from hescribe.bench.protocols import read_protocol
    from hescribe.data.folder import write_cohort
    from hescribe.predict.ridge import RidgePredictor
    from hescribe.slide.toy import toy_bags
    from hescribe.testing.cohorts import raw_colour_cohort

    cohort = raw_colour_cohort(3, 1)
    write_cohort(cohort, root / "C")
    source = root / "source"
    shutil.copytree(root / "C/sections", source)
    for image in (root / "C/images").iterdir():
        shutil.copy(image, source)
    write_model(root / "M", fit_model(RidgePredictor(encoder="color", alpha=100.0), cohort, read_protocol("donor-v1")))
    toy = toy_bags(0, n_bags=12, n_tiles=(5, 9), n_dims=8)
    (root / "F").mkdir()
    lines = ["slide,donor,label"]
    for i, bag in enumerate(toy.bags):
        with h5py.File(root / f"F/{bag.id}.h5", "w") as file:
            file["features"] = bag.read()
        lines.append(f"{bag.id},d{i // 2},{toy.target.names[toy.target.codes[i]]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def predict(root: Path) -> tuple[object, ...]:
    """Return the words that write a prediction for the commands that read one."""
    return ("predict", root / "M", root / "C", "--out", root / "P")


def commands(root: Path, fetch: Callable[[Path], object] | None = None) -> list[Command]:
    """Return the commands, with their inputs below ``root``."""
    cohort, model = root / "C", root / "M"
    color = ("--encoder", "color")
    found = [
        Command("fit", lambda out: ("fit", "color_ridge", cohort, "--set", "alpha=100", "--out", out)),
        Command("predict", lambda out: ("predict", model, cohort, "--out", out), resumes=True),
        Command("embed", lambda out: ("embed", cohort, *color, "--out", out), resumes=True),
        *(Command(f"bench {suite}", partial(_bench, root, suite), resumes=True, read=_read_run) for suite in SUITES),
        Command("complete", lambda out: ("complete", cohort, *MEDIAN, "--out", out)),
        Command("data import", lambda out: ("data", "import", root / "source", *AS_H5AD, "--out", out)),
        Command("data convert", lambda out: ("data", "convert", cohort, "--to", "h5ad", "--out", out)),
        Command("data prepare", lambda out: ("data", "prepare", cohort, *FEW_GENES, "--out", out)),
        Command("data check", lambda out: ("data", "check", cohort, "--report", out / "q.html"), resumes=True),
        Command("view --export", lambda out: ("view", root / "P", "--export", out / "v.html"), resumes=True),
        Command("analyse", lambda out: ("analyse", root / "P", "--cohort", cohort, *color, "--out", out), resumes=True),
        Command("model card", lambda out: ("model", "card", model, "--out", out / "card.html"), resumes=True),
    ]
    return found + ([Command("data fetch", fetch, resumes=True)] if fetch else [])


def _read_run(out: Path) -> Callable[[], object]:
    from hescribe.bench.results import Results
    from hescribe.bench.store import Store

    def read() -> None:
        for path in out.rglob("run.json"):
            for cell in Results(path.parent).finished:
                Store(path.parent).read([cell["key"]])
                Store(path.parent).read_predictions(cell["key"])

    return read


def _bench(root: Path, suite: str, out: Path) -> tuple[object, ...]:
    tiles = ("--features", root / "F", "--labels", root / "labels.csv")
    return ("bench", "run", "--suite", suite, *(tiles if suite == "spade" else ("--cohort", root / "C")),
            *SUITES[suite], "--out", out)  # fmt: skip


def contents(out: Path) -> dict[str, str]:
    """Return what a command wrote: by path, a hash of all but measurements and what is begun but not finished.

    Rows of a benchmark are compared as rows: their files also hold seconds and memory. Of its ledger, which only grows,
    the whole lines are compared: one that was torn stays, and is counted again.
    """
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file() and ".tmp" not in p.name):
        found[str(path.relative_to(out))] = _hash(path)
    return found


def _hash(path: Path) -> str:
    try:
        content = _comparable(path)
    except Exception as error:  # noqa: BLE001 - whatever a library says of a damaged file: it is not what was written
        return f"damaged: {error}"
    return hashlib.sha256(content).hexdigest()


def _comparable(path: Path) -> bytes:
    """Return the part of a file that two runs have in common."""
    if path.suffix == ".parquet" and path.parent.name in {"cells", "joined"}:
        from pyarrow import parquet

        from hescribe.bench.store import MEASUREMENTS

        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
        table = table.select([c for c in table.column_names if c not in MEASUREMENTS])
        return repr(table.to_pydict()).encode()
    if path.name == "ledger.jsonl":
        return b"\n".join(sorted({x for x in path.read_bytes().splitlines() if x.endswith(b"]")}))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return b"".join(k.encode() + arrays[k].tobytes() for k in sorted(arrays))
    return MEASURED.sub(b"", path.read_bytes()) if path.suffix == ".json" else path.read_bytes()

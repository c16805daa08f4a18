"""What is given damaged input: every reader of the package, each with a valid input of its own."""

import json
import random
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
from starlette.testclient import TestClient
from tests.fuzz import seeds
from tests.fuzz.harness import Target
from tests.fuzz.mutate import WORDS, mutate_bytes, mutate_tree
from tests.view.conftest import predicted_table

from hescribe import keys
from hescribe.align.infonce import InfoNCEAligner
from hescribe.analysis.gene_sets import read_gene_sets
from hescribe.bench.aligner_folder import fit_aligner, read_aligner, write_aligner
from hescribe.bench.fitting import fit_model
from hescribe.bench.model_folder import read_model, write_model
from hescribe.bench.protocols import read_protocol
from hescribe.bench.study import read_study
from hescribe.data.archive import extract, is_archive
from hescribe.data.dataset_card import Entry
from hescribe.data.folder import data_hash, read_cohort, write_cohort
from hescribe.data.geojson import label_spots, read_regions
from hescribe.data.h5ad import write_h5ad
from hescribe.data.hest import read_hest_metadata
from hescribe.data.importing import import_cohort
from hescribe.data.predicted import predicted_values, read_predicted
from hescribe.data.slide import open_image
from hescribe.data.toml_file import read_toml
from hescribe.data.validate import check_section
from hescribe.encode.gene.pca import PCAEncoder
from hescribe.errors import HescribeError, SchemaError
from hescribe.predict.ridge import RidgePredictor
from hescribe.prep.spared_genes import read_gene_list
from hescribe.slide.bag_files import read_bags
from hescribe.slide.labels import read_labels
from hescribe.testing.cohorts import raw_colour_cohort
from hescribe.train.shards import PairShards, write_pairs
from hescribe.view.page import describe
from hescribe.view.scene import View, read_scene
from hescribe.view.server import COOKIE, create_app
from hescribe.view.tiles import Tiles

CATALOGUE = Path(__file__).parents[2] / "src/hescribe/data/catalogue"
TOKEN = "the-token"  # noqa: S105 - of this test


def _import(reader: str, **params: object) -> Callable[[Path, Path], object]:
    def use(source: Path, out: Path) -> None:
        import_cohort(source, reader, out, params=params, mpp=None)

    return use


def _import_with_manifest(source: Path, out: Path) -> None:
    import_cohort(source, "h5ad", out, manifest=source / "manifest.toml")


def _manifest(root: Path) -> None:
    seeds.h5ad(root)
    (root / "manifest.toml").write_text(seeds.MANIFEST)


def _cohort(root: Path) -> None:
    write_cohort(raw_colour_cohort(2, 1), root)


def _read_cohort(source: Path, out: Path) -> None:
    del out
    for section in read_cohort(source):
        if problems := check_section(section):
            raise SchemaError(str(source), problems)
        data_hash(section)
        if section.image is not None:
            section.image.read(0.0, 0.0, (200.0, 200.0), 8.0)


STUDY = """cohort = "C"
out = "OUT"
suite = "spared"
protocol = "donor-v1"
models = ["mean", "color_ridge"]
seeds = [0, 1]
completers = ["mean"]
"""


def _text(name: str, content: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(content, encoding="utf-8")  # type: ignore[func-returns-value]


def _card(root: Path) -> None:
    shutil.copy(CATALOGUE / "stutility_mob.toml", root / "card.toml")


SETS = """[proliferation]
title = "Proliferation"
organism = "Homo sapiens"
genes = ["MKI67", "TOP2A"]
source = "a paper"
"""

HEST = """dataset_title,id,organ,species,patient,st_technology,pixel_size_um_embedded,pixel_size_um_estimated
Study A,TENX1,Breast,Homo sapiens,Patient 1,Xenium,0.2125,0.2126
Study A,TENX2,Breast,Homo sapiens,,Visium,0.5,0.5
"""


def _read_gene_list(source: Path, out: Path) -> None:
    del out
    read_gene_list(source / "genes.txt")


@cache
def _section() -> object:
    return raw_colour_cohort(2, 1)[0]


def _model(root: Path) -> None:
    cohort, rule = raw_colour_cohort(2, 1), replace(read_protocol("donor-v1"), n_genes=12)
    write_model(root / "M", fit_model(RidgePredictor(encoder="color", alpha=100.0), cohort, rule))


def _use_model(source: Path, out: Path) -> None:
    del out
    model = read_model(source / "M")
    section = _section()
    mean = model.predictor.predict(section.blind()).mean  # type: ignore[attr-defined]
    if model.interval is not None:
        assert model.interval.below.shape == mean.shape[1:]


def _aligner(root: Path) -> None:
    small = InfoNCEAligner(
        encoder="color", fov_um=(150.0,), gene_encoder=PCAEncoder(n_dims=4), n_dims=8, epochs=2, lr=5e-3, batch_size=64
    )
    rule = replace(read_protocol("donor-v1"), n_genes=12)
    write_aligner(root / "M", fit_aligner(small, raw_colour_cohort(2, 1), rule))


def _use_aligner(source: Path, out: Path) -> None:
    del out
    read_aligner(source / "M").aligner.embed_image(_section().blind())  # type: ignore[attr-defined]


def _read_bags(source: Path, out: Path) -> None:
    del out
    for bag in read_bags(source).values():
        _may_refuse(bag.read)
        _may_refuse(bag.read_places)


def _read_labels(source: Path, out: Path) -> None:
    del out
    table = read_labels(source / "labels.csv")
    _may_refuse(lambda: (table.donors, table.sites))
    for column in ("subtype", "grade"):
        if column in table.table:
            _may_refuse(lambda c=column: table.classes(c, ordered=c == "grade"))
    if {"os_time", "os_event"} <= set(table.table):
        _may_refuse(lambda: table.survival("os_time", "os_event"))


def _may_refuse(read: Callable[[], object]) -> None:
    """Go on with the next file after one that is refused."""
    with suppress(HescribeError):
        read()


def _read_regions(source: Path, out: Path) -> None:
    del out
    label_spots(np.arange(20.0).reshape(10, 2), read_regions(source / "regions.geojson"))


def _read_images(source: Path, out: Path) -> None:
    del out
    for path in sorted(source.iterdir()):
        _may_refuse(lambda p=path: _read_image(p))


def _read_image(path: Path) -> None:
    image = open_image(path, None if path.suffix == ".svs" else 0.5)
    image.read(2.0, 2.0, (10.0, 10.0), 0.5)
    image.read(0.0, 0.0, image.size_um, image.mpp * 4)
    assert len(image.fingerprint) == 64


def _one_image(root: Path, rng: random.Random) -> str:
    """Change one image and leave it alone in the folder."""
    files = sorted(p for p in root.iterdir())
    chosen = rng.choice(files)
    for path in files:
        if path != chosen:
            path.unlink()
    return mutate_tree(root, rng)


def _predicted(root: Path) -> None:
    cohort = raw_colour_cohort(1, 1)
    write_cohort(cohort, root / "cohort")
    table = predicted_table(cohort[0], ["GENE0", "GENE1", "GENE2", "GENE3"])
    table.obs[keys.OOD] = 0.1
    table.uns["hescribe"] |= {"source": "../cohort/sections/s0.h5ad", "mpp": 4.0, "doubts": ["the slide is blurred"]}
    (root / "P").mkdir()
    write_h5ad(table, root / "P/s0.h5ad")


def _view(source: Path, out: Path) -> None:
    del out
    _may_refuse(lambda: predicted_values(read_predicted(source / "P/s0.h5ad"), ["GENE0"]))
    for view in read_scene(source / "P"):
        describe(view, None if view.image is None else Tiles(view.image))
        for layer in view.layers:
            view.values(str(view.genes.index[0]), layer)


def _pairs(root: Path) -> None:
    rng = np.random.default_rng(0)
    write_pairs(root / "pairs", [(rng.random((n, 3)), rng.random((n, 2))) for n in (20, 30)], key="k")


def _read_pairs(source: Path, out: Path) -> None:
    del out
    for _ in PairShards.open(source / "pairs").batches(16, seed=0, epoch=1):
        pass


def _extract(source: Path, out: Path) -> None:
    paths = sorted(p for p in source.iterdir() if is_archive(p))
    for path in paths:
        extract(path, out if len(paths) == 1 else out / path.name)


def _mutate_archive(root: Path, rng: random.Random) -> str:
    """Leave one archive: damaged, or made anew with members that mean harm."""
    files = sorted(p for p in root.iterdir())
    chosen = rng.choice(files)
    for path in files:
        if path != chosen:
            path.unlink()
    if rng.random() < 0.5 or chosen.suffix not in {".zip", ".tar"}:
        content, done = mutate_bytes(chosen.read_bytes(), rng)
        chosen.write_bytes(content)
        return f"{chosen.name}: {done}"
    members = [(rng.choice(WORDS) or "x", rng.choice(["file", "link", "folder", "bomb", "device"])) for _ in range(3)]
    (_craft_zip if chosen.suffix == ".zip" else _craft_tar)(chosen, members)
    return f"{chosen.name}: {[(n[:20], k) for n, k in members]}"


def _craft_zip(path: Path, members: list[tuple[str, str]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, kind in members:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode()[:60000] + ("/" if kind == "folder" else ""))
            info.external_attr = (0o120777 if kind == "link" else 0o020666 if kind == "device" else 0o100644) << 16
            file.writestr(info, bytes(80 << 20) if kind == "bomb" else b"/etc/passwd", zipfile.ZIP_DEFLATED, 1)


def _craft_tar(path: Path, members: list[tuple[str, str]]) -> None:
    kinds = {"link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE, "device": tarfile.CHRTYPE}
    with tarfile.open(path, "w") as file:
        for name, kind in members:
            info = tarfile.TarInfo(name.replace("\0", "") or "x")
            info.type, info.linkname, info.size = kinds.get(kind, tarfile.REGTYPE), "../../escaped", 0
            if kind == "bomb":  # a header that claims what is not there
                info.size = 1 << 40
            file.addfile(info)


@cache
def scene() -> tuple[View, ...]:
    root = Path(tempfile.mkdtemp(prefix="fuzz_scene"))
    _predicted(root)
    return read_scene(root / "P")


ROUTES = ["/", "/script/viewer.js", "/section/0", "/section/0/spots", "/section/0/names", "/section/0/values/0/0",
          "/section/0/domain/0", "/section/0/tile/0/0/0", "/section/0/tile/1/1/0"]  # fmt: skip
PIECES = ["..", "%2e%2e", "%00", "-1", "9" * 400, "9" * 5000, "0", "1", "2", "99", "1e9", "0x1", "é", "%ff", "{x}",
          "etc", "passwd", "%2fetc%2fpasswd", "script", "section", "viewer.js", "?token=", "#", "\\", "//"]  # fmt: skip


def _urls(root: Path) -> None:
    (root / "urls.txt").write_text("\n".join(ROUTES))


def _mutate_urls(root: Path, rng: random.Random) -> str:
    """Replace the addresses by one that nobody offered."""
    parts = rng.choice(ROUTES).split("/")
    parts[rng.randrange(len(parts))] = rng.choice([*PIECES, quote(rng.choice(WORDS)[:300])])
    if rng.random() < 0.3:
        parts.insert(rng.randrange(len(parts)), rng.choice(PIECES))
    url = "/" + "/".join(parts).lstrip("/")
    if rng.random() < 0.3:
        url += f"?{rng.choice(['token', 'x', 'section'])}={quote(rng.choice(WORDS)[:300])}"
    (root / "urls.txt").write_text(url, encoding="utf-8")
    return url[:120]


def _ask(source: Path, out: Path) -> None:
    del out
    with TestClient(create_app(scene(), TOKEN), base_url="http://127.0.0.1") as browser:
        for cookie in (TOKEN, "wrong"):
            browser.cookies.set(COOKIE, cookie)
            for url in (source / "urls.txt").read_text(encoding="utf-8").split("\n"):
                answer = browser.get(quote(url, safe="/?=&%#:"), follow_redirects=False)
                assert answer.status_code < 500, answer.status_code
                assert cookie == TOKEN or answer.status_code in {403, 303, 400}, answer.status_code
                assert "root:" not in answer.text[:2000]


def _big_endian_bomb(root: Path, rng: random.Random) -> str:
    """Claim a size in the head of a PNG that its content does not have."""
    path = root / "b.png"
    for other in root.iterdir():
        if other != path:
            other.unlink()
    if not path.exists():
        return "nothing"
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", rng.choice([1, 30_000, 32_000, 2**31 - 1]), rng.choice([1, 30_000, 2**31 - 1]))
    path.write_bytes(bytes(content))
    return "its head claims another size"


READERS = {
    "st": (seeds.st, "st", {}),
    "st_flat": (seeds.st_flat, "st", {}),
    "visium": (seeds.visium, "visium", {}),
    "visium_v2": (partial(seeds.visium, matrix="v2"), "visium", {}),
    "visium_v3": (partial(seeds.visium, matrix="v3"), "visium", {}),
    "visium_hd": (seeds.visium_hd, "visium_hd", {}),
    "xenium": (seeds.xenium_folder, "xenium", {}),
    "xenium_csv": (seeds.xenium_csv, "xenium", {}),
    "hest": (seeds.hest_folder, "hest", {}),
    "hescape": (seeds.hescape_folder, "hescape", {}),
    "spared": (seeds.spared_file, "spared", {}),
    "h5ad": (seeds.h5ad, "h5ad", {}),
}
TARGETS = {
    t.name: t
    for t in (
        *(Target(name, build, _import(reader, **params)) for name, (build, reader, params) in READERS.items()),
        Target("manifest", _manifest, _import_with_manifest),
        Target("cohort", _cohort, _read_cohort),
        Target("study", _text("study.toml", STUDY), lambda source, _: read_study(source / "study.toml"), share=3),
        Target("card", _card, lambda source, _: read_toml(source / "card.toml", Entry), share=3),
        Target("gene_sets", _text("sets.toml", SETS), lambda source, _: read_gene_sets(source / "sets.toml"), share=3),
        Target("gene_list", _text("genes.txt", "A\nB x\n"), _read_gene_list, share=3),
        Target("hest_table", _text("hest.csv", HEST), lambda at, _: read_hest_metadata(at / "hest.csv"), share=3),
        Target("model", _model, _use_model, share=3),
        Target("aligner", _aligner, _use_aligner, share=3),
        Target("bags", seeds.bags, _read_bags),
        Target("labels", _text("labels.csv", seeds.LABELS), _read_labels, share=3),
        Target("regions", _text("regions.geojson", json.dumps(seeds.REGIONS)), _read_regions, share=3),
        Target("images", seeds.images, _read_images, _one_image, share=3),
        Target("image_bomb", seeds.images, _read_images, _big_endian_bomb),
        Target("prediction", _predicted, _view, share=0.5),
        Target("pairs", _pairs, _read_pairs, share=3),
        Target("archive", seeds.archives, _extract, _mutate_archive, share=3),
        Target("viewer", _urls, _ask, _mutate_urls),
    )
}

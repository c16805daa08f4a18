"""Slides of a folder are embedded once each, wherever that is done, and a bad one does not stop the others."""

import json
import os

import h5py
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from hescribe.cli.app import app
from hescribe.errors import DataAccessError, FormatError, InputError, SchemaError
from hescribe.launch import embedding
from hescribe.launch.embedding import Embedding, embed_slides, plan_embedding, read_embedding
from hescribe.launch.local import LocalLauncher
from hescribe.launch.slurm import SlurmLauncher
from hescribe.slide.bag_files import read_bags

MPP = 2.0


def write_slide(path, seed):
    """Write 2 x 2 mm of noise in the colours of tissue, with glass around it."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal([170, 90, 160], 20, (1000, 1000, 3))
    pixels[:100], pixels[-100:] = 240, 240
    tifffile.imwrite(
        path, pixels.clip(0, 255).astype(np.uint8), photometric="rgb", resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )  # fmt: skip


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "my slides"
    folder.mkdir()
    for i in range(3):
        write_slide(folder / f"s{i}.tif", i)
    return folder


def job(slides, name="out", **params):
    return Embedding(source=str(slides), out=str(slides.parent / name), encoder="color", **params)


def features(folder):
    return {path.stem: h5py.File(path)["features"][:] for path in sorted(folder.glob("*.h5"))}


def test_every_slide_becomes_a_bag(slides):
    units = embed_slides(job(slides))
    assert [unit.failure for unit in units] == ["", "", ""]
    bags = read_bags(slides.parent / "out")
    assert list(bags) == ["s0", "s1", "s2"]
    assert bags["s0"].read().shape[1] == 22
    assert read_embedding(slides.parent / "out") == job(slides)


def test_a_slide_is_embedded_once_and_again_when_it_or_the_way_changes(slides, monkeypatch):
    embed_slides(job(slides))
    done, real = [], embedding.embedded.write
    monkeypatch.setattr(
        embedding.embedded, "write", lambda path, *a, **k: (done.append(path.stem), real(path, *a, **k))
    )
    embed_slides(job(slides))
    assert done == []
    write_slide(slides / "s1.tif", 9)
    os.utime(slides / "s1.tif", (1, 1))
    embed_slides(job(slides))
    assert done == ["s1"]
    embed_slides(job(slides, pitch_um=150.0))
    assert done == ["s1", "s0", "s1", "s2"]


@pytest.mark.parametrize(
    "launcher",
    [pytest.param(LocalLauncher(n_workers=2), marks=pytest.mark.slow), SlurmLauncher(cluster="debug", n_jobs=2)],
)
@pytest.mark.filterwarnings("ignore")
def test_workers_write_what_this_process_writes(slides, launcher):
    embed_slides(job(slides))
    embed_slides(job(slides, "elsewhere"), launcher)
    here, there = features(slides.parent / "out"), features(slides.parent / "elsewhere")
    assert here.keys() == there.keys()
    for name, x in here.items():
        np.testing.assert_array_equal(there[name], x)


def test_a_slide_that_cannot_be_read_is_told_and_tried_again(slides):
    (slides / "s1.tif").write_bytes(b"no slide")
    write_slide(slides / "s3.tif", 3)
    failures = {unit.path.name: unit.failure for unit in embed_slides(job(slides))}
    assert "s1.tif" in failures.pop("s1.tif")
    assert set(failures.values()) == {""}
    assert list(features(slides.parent / "out")) == ["s0", "s2", "s3"]
    write_slide(slides / "s1.tif", 1)
    assert [unit.failure for unit in embed_slides(job(slides))] == [""] * 4


def test_a_full_disk_stops_it_and_the_same_call_goes_on(slides, monkeypatch):
    real = embedding.embedded.write

    def full(path, *args, **more):
        if path.stem == "s1":
            raise DataAccessError(f"{path} cannot be written: No space left on device")
        real(path, *args, **more)

    monkeypatch.setattr(embedding.embedded, "write", full)
    with pytest.raises(DataAccessError, match="No space left"):
        embed_slides(job(slides))
    monkeypatch.setattr(embedding.embedded, "write", real)
    assert [unit.failure for unit in embed_slides(job(slides))] == ["", "", ""]


def test_what_is_no_folder_of_slides_is_refused(slides, tmp_path):
    with pytest.raises(DataAccessError, match="no folder of slides"):
        plan_embedding(job(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no slide"):
        plan_embedding(job(tmp_path / "empty"))
    write_slide(slides / "s1.png.tif", 0)
    (slides / "s1.png.tif").rename(slides / "s1.tiff")
    with pytest.raises(InputError, match=r"s1\.tif and s1\.tiff in .* would be written to one file"):
        plan_embedding(job(slides))


def test_a_damaged_plan_is_told(slides):
    embed_slides(job(slides))
    path = slides.parent / "out" / embedding.PLAN
    path.write_text("source = ")
    with pytest.raises(FormatError, match="damaged"):
        read_embedding(path.parent)
    path.write_text("source = 3")
    with pytest.raises(SchemaError, match="encoder"):
        read_embedding(path.parent)


def test_the_command_names_what_failed_and_ends_with_1(slides):
    out = str(slides.parent / "out")
    words = ["embed", str(slides), "--encoder", "color", "--format", "h5", "--out", out, "--json"]
    assert CliRunner().invoke(app, words).exit_code == 0
    (slides / "bad.tif").write_bytes(b"no slide")
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 1
    assert list(json.loads(told.stdout)["failed"]) == ["bad.tif"]
    assert "1 of 4 slides not embedded" in told.stderr
    assert CliRunner().invoke(app, words[:2]).exit_code == 1  # nowhere to write to
    assert (
        "for a folder of slides"
        in CliRunner().invoke(app, ["embed", str(slides / "s0.tif"), "--launch", "local"]).stderr
    )

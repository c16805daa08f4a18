"""The slides of a folder, each a unit: embedded and written whole, wherever that is done."""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hescribe import __version__
from hescribe._support import write_whole
from hescribe.bench import embedded
from hescribe.data.importing import IMAGE_SUFFIXES
from hescribe.data.slide import open_image
from hescribe.data.toml_file import Record, check_record, to_toml
from hescribe.encode.base import create_encoder
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.launch.base import Launcher
from hescribe.prep.tissue import grid_section
from hescribe.progress import track

PLAN = "embedding.toml"  # in the folder of the embeddings, as the study is in that of a run
DONE, FAILED = "done", "failed"  # folders in it: what says that a slide is finished, and why one is not


class Embedding(Record):
    """What is done to every slide of a folder.

    Parameters
    ----------
    source
        Folder of slides; those in folders of it are not taken.
    out
        Folder of the embeddings: one file a slide.
    encoder
        As in ``hescribe embed``.
    mpp
        um per pixel of slides that do not say; None refuses them.
    pitch_um
        Distance of the tiles.
    file_format
        Of ``bench.embedded.FORMATS``.
    """

    source: str
    out: str
    encoder: str
    mpp: float | None = None
    pitch_um: float = 112.0
    file_format: str = "h5"


@dataclass(frozen=True)
class SlideUnit:
    """A slide that is to be embedded.

    A slide that cannot be is told of and does not stop the others: what is wrong is written in ``failed``.

    Parameters
    ----------
    job
        It belongs to.
    path
        Of the slide.
    """

    job: Embedding
    path: Path

    @cached_property
    def key(self) -> str:
        """Hash of everything that its embedding depends on."""
        facts = self.path.stat()
        content = {
            "slide": [self.path.name, facts.st_size, facts.st_mtime_ns],
            "encoder": asdict(_encoder(self.job.encoder).card),
            "mpp": self.job.mpp, "pitch_um": self.job.pitch_um, "format": self.job.file_format, "version": __version__,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def is_finished(self) -> bool:
        """Whether its embedding is there, or it was found that there can be none."""
        return self._mark(DONE).exists() or self._mark(FAILED).exists()

    @property
    def failure(self) -> str:
        """What is wrong with the slide; empty if it was embedded."""
        return self._mark(FAILED).read_text(encoding="utf-8") if self._mark(FAILED).exists() else ""

    def finish(self) -> None:
        """Embed the slide and write its tiles, then the mark that says so."""
        out = Path(self.job.out)
        try:
            image = open_image(self.path, self.job.mpp)
            section = grid_section(image, self.path.stem, self.job.pitch_um)
            found = embedded.embed(section, _encoder(self.job.encoder), "")
            source = os.path.relpath(self.path.resolve(), out.resolve())
            embedded.write(out / f"{self.path.stem}.{self.job.file_format}", found, self.job.encoder, source=source)
        except (InputError, FormatError) as error:  # of this slide; a full disk or missing weights stop the run
            self._write_mark(FAILED, str(error))
        else:
            self._write_mark(DONE, "")

    def name_in(self, out: Path) -> str:  # noqa: ARG002 - slides lie flat
        """Return its name among the units of a job."""
        return f"{self.path.name}/{self.key}"

    def forget_failure(self) -> None:
        """Have it tried again."""
        self._mark(FAILED).unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"slide {self.path.name}"

    def _mark(self, kind: str) -> Path:
        return Path(self.job.out) / kind / f"{self.path.name}.{self.key}"

    def _write_mark(self, kind: str, text: str) -> None:
        with write_whole(self._mark(kind)) as tmp:
            tmp.write_text(text, encoding="utf-8")


def plan_embedding(job: Embedding) -> list[SlideUnit]:
    """Return the slides of a job.

    Raises
    ------
    DataAccessError
        If there is no such folder.
    InputError
        If no slide lies in it, or two would be written to one file.
    """
    folder = Path(job.source)
    if not folder.is_dir():
        raise DataAccessError(f"there is no folder of slides {folder}")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} holds no slide; known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    by_stem: dict[str, Path] = {}
    for path in paths:
        if (other := by_stem.setdefault(path.stem, path)) is not path:
            raise InputError(f"{other.name} and {path.name} in {folder} would be written to one file; rename one")
    embedded.check_format(job.file_format)
    return [SlideUnit(job, path) for path in paths]


def read_embedding(out: Path) -> Embedding:
    """Return the job of a folder of embeddings."""
    path = out / PLAN
    try:
        return check_record(tomllib.loads(path.read_text(encoding="utf-8")), Embedding, str(path))
    except OSError as error:
        raise DataAccessError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is damaged; give the command again that wrote it") from error


def embed_slides(job: Embedding, launcher: Launcher | None = None) -> list[SlideUnit]:
    """Embed every slide of a folder that is not embedded yet, and return all; those that failed before are tried again.

    Raises
    ------
    HescribeError
        If it cannot go on: what is finished stays, and the same call goes on.
    """
    units = plan_embedding(job)
    with write_whole(Path(job.out) / PLAN) as tmp:
        tmp.write_text(to_toml(job.model_dump()))
    for unit in units:
        unit.forget_failure()
    missing = [unit for unit in units if not unit.is_finished]
    for _ in track((launcher or Here()).finish(missing, Path(job.out)), "embedding slides", len(missing)):
        pass
    return units


@cache
def _encoder(name: str) -> Any:
    return create_encoder(name)


class Here:
    """Works off slides in this process, one after the other: an encoder takes all cores."""

    def finish(self, units: Sequence[Any], out: Path) -> Iterator[None]:  # noqa: ARG002 - what is needed is at hand
        """Finish every unit, and yield as they end."""
        for unit in units:
            yield unit.finish()

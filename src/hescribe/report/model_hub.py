"""Share a fitted model on a model hub, and take one from there: two files, verified, of one pinned revision.

Pushed through huggingface_hub; pulled by our own download, which resumes, checks size and checksum of every file, and
sends the token to no other host. Only what a model folder must hold is taken; its pages are written anew.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hescribe import settings
from hescribe._support import write_whole_folder
from hescribe.bench.model_folder import INDEX, WEIGHTS, FittedModel, check_target, read_model
from hescribe.bench.model_names import encoder_name
from hescribe.bench.model_terms import find_terms
from hescribe.data.download import RemoteFile, download
from hescribe.data.fetch import find_token
from hescribe.data.untrusted import parse_json
from hescribe.data.web import PATIENT, Patience, read_page
from hescribe.errors import DataAccessError, FormatError, InputError
from hescribe.report.model_card import PAGE, README, write_cards

SOURCE = "hub.json"  # where a pulled model came from
MAX_INDEX = 256 << 20  # bytes: model.json is read whole


@dataclass(frozen=True)
class HubFolder:
    """Where a model is on a hub: address of its page, commit, and how many files there are not taken."""

    page: str
    revision: str
    n_others: int = 0


def push_model(
    folder: Path, repository: str, *, private: bool = True, may_share: bool = False, message: str = "Add fitted model"
) -> HubFolder:
    """Upload a model folder and its cards, written anew, as one commit.

    Parameters
    ----------
    folder
        Of a model; read strictly first.
    repository
        ``owner/name``; made if it does not exist.
    private
        Whether a new repository can be seen by its owner alone.
    may_share
        The user has read the terms that stand against it, and may.
    message
        Of the commit.

    Raises
    ------
    DataAccessError
        If there is no model, no token, or the hub refuses or cannot be reached.
    InputError
        If the repository's name is none, or the terms of training data or encoder stand against it.
    """
    check_repository(repository)
    model = read_model(folder)
    _check_may_leave(folder, model, may_share=may_share)
    _check_online()
    token = find_token()
    if token is None:
        raise DataAccessError("there is no Hugging Face token: run `hf auth login` or set HF_TOKEN, with write access")
    import huggingface_hub as hub  # noqa: PLC0415 - heavy

    api = hub.HfApi(token=token, library_name="hescribe")
    with _told(repository, token), _without_bars():
        api.create_repo(repository, private=private, exist_ok=True)
    write_cards(model.info, folder)
    adds = [hub.CommitOperationAdd(name, str(folder / name)) for name in (INDEX, WEIGHTS, PAGE, README)]
    with _told(repository, token), _without_bars():
        commit = api.create_commit(repository, adds, commit_message=message)
    return HubFolder(f"{api.endpoint}/{repository}", commit.oid)


def pull_model(
    repository: str,
    out: Path,
    *,
    revision: str = "main",
    overwrite: bool = False,
    patience: Patience = PATIENT,
) -> HubFolder:
    """Download a model from a hub: the whole folder, of one commit, or nothing.

    Parameters
    ----------
    repository
        ``owner/name``.
    out
        Model folder to write.
    revision
        Branch, tag or commit; the commit that it stands for is what is taken, and written to ``hub.json``.
    overwrite
        Replace a model folder.
    patience
        How long to try.

    Raises
    ------
    DataAccessError
        If the hub refuses, has no such model or keeps failing, or ``out`` cannot be written.
    FormatError
        If a file is not what the hub states, or no model of this version.
    InputError
        If the repository's name is none.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    check_repository(repository)
    check_target(out, overwrite=overwrite)
    _check_online()
    token, base = find_token(), constants.ENDPOINT
    commit, sizes, sums = _list_repository(base, repository, revision, token, patience)
    source: dict[str, Any] = {"hub": base, "repository": repository, "revision": commit, "sha256": {}}
    with write_whole_folder(out) as tmp:
        for name in (INDEX, WEIGHTS):
            url = f"{base}/{repository}/resolve/{commit}/{name}"
            file = RemoteFile(
                url=url, path=name, size=sizes[name], sha256=sums[name].get("sha256"),
                page=f"{base}/{repository}", with_token=True,
            )  # fmt: skip
            source["sha256"][name] = download(file, tmp / name, token=token, patience=patience)
            _check_blob(tmp / name, sums[name], url)
        (tmp / SOURCE).write_text(json.dumps(source, indent=1))
        write_cards(read_model(tmp).info, tmp)  # not those of the hub: a page can run code
    return HubFolder(
        f"{base}/{repository}", commit, len(sizes.keys() - {INDEX, WEIGHTS, ".gitattributes", PAGE, README})
    )


def check_repository(name: str) -> None:
    """Raise ``InputError`` if a name is no ``owner/name`` of a hub.

    Examples
    --------
    >>> check_repository("me/her2st-default")
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", name) or ".." in name or "--" in name:
        raise InputError(f"{name!r} is no repository of a hub; give owner/name, such as my-lab/her2st-default")


def _check_may_leave(folder: Path, model: FittedModel, *, may_share: bool) -> None:
    """Raise ``InputError`` if a model could not be used elsewhere, or may not be shared."""
    name = encoder_name(model.predictor) or ""
    if "/" in name or name.endswith(".toml") or Path(name).is_dir():
        raise InputError(
            f"{folder} reads encoder {name}, which is on this machine only: nobody else could use the model"
        )
    if not may_share and (found := find_terms(model)):
        raise InputError(
            f"{folder} is not pushed: {'; and '.join(found)}. Read the terms; if they let you share the model, give "
            "--may-share"
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the client's bars off stderr, where ``--quiet`` wants nothing."""
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415 - heavy
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _check_online() -> None:
    if settings.is_offline():
        raise DataAccessError("the network is switched off (HESCRIBE_OFFLINE or HF_HUB_OFFLINE); a hub cannot be asked")


def _list_repository(
    base: str, repository: str, revision: str, token: str | None, patience: Patience
) -> tuple[str, dict[str, int], dict[str, dict[str, str]]]:
    """Return the commit that a revision stands for, and the size and the checksums of each file in it.

    Raises
    ------
    FormatError
        If the answer is no list of files, or holds no model.
    """
    url = f"{base}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    page = f"{base}/{repository}"
    content, _ = read_page(url, token=token, page=page, patience=patience)
    try:
        answer = parse_json(content, url)
        commit, files = answer["sha"], {str(f["rfilename"]): f for f in answer["siblings"]}
        sizes = {name: int(f["size"]) for name, f in files.items()}
        sums = {
            name: {"sha256": f["lfs"]["sha256"]} if f.get("lfs") else {"blob": f["blobId"]} for name, f in files.items()
        }
        is_commit = re.fullmatch(r"[0-9a-f]{40}", commit)
    except (FormatError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{url} answers with something else than a list of files; see {page}") from error
    if not is_commit:
        raise FormatError(f"{url} names {commit[:60]!r}, which is no commit; see {page}")
    if lacking := [n for n in (INDEX, WEIGHTS) if n not in files]:
        raise FormatError(f"{page} holds no model of HEscribe at revision {revision}: {lacking[0]} is missing")
    if sizes[INDEX] > MAX_INDEX:
        raise FormatError(f"{page} has a {INDEX} of {sizes[INDEX]} bytes, more than any model's; nothing was taken")
    return commit, sizes, sums


def _check_blob(path: Path, sums: dict[str, str], url: str) -> None:
    """Raise ``FormatError`` if a file is not the one that git knows under a name; what has a sha256 was checked."""
    if "blob" not in sums:
        return
    content = path.read_bytes()
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found != sums["blob"]:
        raise FormatError(f"{url}: expected git blob {sums['blob']}, got {found}; nothing was taken, try again")


@contextmanager
def _told(repository: str, token: str) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence: it has another transport, with other errors, every year."""
    try:
        yield
    except Exception as error:
        raise DataAccessError(_say(error, repository, token)) from error


def _say(error: Exception, repository: str, token: str) -> str:
    """Return what went wrong with a push and what to do, without the token."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in {401, 403}:
        return f"the hub does not let you write {repository} ({status}): use a token with write access, `hf auth login`"
    if status == 404:
        return f"the hub has no place for {repository} (404): is the owner's name right, and the token theirs"
    if status == 429:
        return f"the hub asks for fewer requests (429); {repository} was not changed, try again later"
    said = next(iter(str(error).strip().splitlines()), type(error).__name__).replace(token, "<token>")
    return f"{repository} cannot be pushed ({said}); its files were not changed, try again"

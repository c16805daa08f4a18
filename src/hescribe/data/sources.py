"""Where a dataset's files lie: each host's own list of files, brought to one form.

The hosts' interfaces, as their documentation and public clients show them: the tree of a Hugging Face
repository, Zenodo's records, Mendeley Data's public files, figshare's articles, the folders of GEO, the
fixed names of a 10x Genomics sample, and the tree of a GitHub commit.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from hescribe.data.dataset_card import Source, SourceFile, SourceKind
from hescribe.data.download import RemoteFile
from hescribe.data.untrusted import parse_json
from hescribe.data.web import PATIENT, Patience, read_page
from hescribe.errors import DataAccessError, FormatError

MAX_PAGES = 1000  # of a list: one that is longer never ends
FIGSHARE_ROWS = 1000  # of a page, the most that it gives
TENX_FILES = ("filtered_feature_bc_matrix.h5", "spatial.tar.gz", "image.tif")


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Base addresses of the hosts, without a slash at the end."""

    huggingface: str = "https://huggingface.co"
    zenodo: str = "https://zenodo.org"
    mendeley: str = "https://data.mendeley.com"
    figshare: str = "https://api.figshare.com"
    geo: str = "https://ftp.ncbi.nlm.nih.gov"
    tenx: str = "https://cf.10xgenomics.com"
    github: str = "https://raw.githubusercontent.com"
    github_api: str = "https://api.github.com"


HOSTS = Hosts()
Ask = Callable[[str], Any]


def list_files(
    source: Source, *, token: str | None = None, hosts: Hosts = HOSTS, patience: Patience = PATIENT
) -> tuple[RemoteFile, ...]:
    """Return the files of a source that belong to the dataset, sorted by path.

    Files that the card states with their checksums are not asked for.

    Parameters
    ----------
    source
        From a card of the catalogue.
    token
        For Hugging Face; sent to no other host.
    hosts
        Where to ask.
    patience
        How long to try.

    Raises
    ------
    DataAccessError
        If the host refuses, keeps failing, or lists nothing that belongs to the dataset.
    FormatError
        If its answer is no list of files.
    """
    token = token if source.kind == "huggingface" else None
    n_pages = itertools.count(1)

    def ask(url: str) -> Any:
        if next(n_pages) > MAX_PAGES:
            raise FormatError(f"{source.kind} does not end its list of files of {source.record}; see {source.page}")
        content, response = read_page(url, token=token, page=source.page, patience=patience)
        return content if source.kind == "geo" else (_parse(content, url), response.links)

    if source.file:
        found = [_state_file(source, f, hosts) for f in source.file]
    else:
        try:
            found = [_check_types(f) for f in LISTERS[source.kind](source, hosts, ask)]
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"{source.kind} answers for {source.record} with something else than a list of files; see {source.page}"
            ) from error
    found = [f for f in found if not source.only or any(fnmatchcase(f.path.lower(), o.lower()) for o in source.only)]
    if not found:
        raise DataAccessError(f"{source.kind} lists no file of this dataset in {source.record}; see {source.page}")
    return tuple(sorted(found, key=lambda f: f.path))


def _state_file(source: Source, file: SourceFile, hosts: Hosts) -> RemoteFile:
    url = file.url
    if url is None:
        if source.kind != "github":
            raise FormatError(f"the card states {file.path} of {source.record} without its url")
        url = _github_url(source, file.path, hosts)
    return RemoteFile(url=url, path=file.path, size=file.size, sha256=file.sha256, md5=file.md5, page=source.page)


def _check_types(file: RemoteFile) -> RemoteFile:
    """Return a file whose facts are of the types they must be; a host's answer may hold anything."""
    texts = [file.url, file.path, file.sha256 or "", file.md5 or ""]
    if not (all(isinstance(t, str) for t in texts) and isinstance(file.size, int | None) and (file.size or 0) >= 0):
        raise TypeError(file)
    return file


def _parse(content: bytes, url: str) -> Any:
    try:
        return parse_json(content, url)
    except FormatError as error:
        raise FormatError(f"{url} answers with something else than JSON") from error


def _list_huggingface(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    base, version = hosts.huggingface, source.version or "main"
    url: str | None = f"{base}/api/datasets/{source.record}/tree/{quote(version, safe='')}?recursive=true"
    while url:
        if urlsplit(url).netloc != urlsplit(base).netloc:
            raise FormatError(f"{base} continues its list at {url}, another host, to which no token is sent")
        rows, links = ask(url)
        for row in rows:
            if row["type"] == "file":
                path = row["path"]
                yield RemoteFile(
                    url=f"{base}/datasets/{source.record}/resolve/{quote(version, safe='')}/{quote(path)}",
                    path=path,
                    size=row["size"],
                    sha256=row["lfs"]["oid"].removeprefix("sha256:") if row.get("lfs") else None,
                    page=source.page,
                    with_token=True,
                )
        url = links.get("next", {}).get("url")


def _list_zenodo(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    record, _ = ask(f"{hosts.zenodo}/api/records/{source.record}")
    for row in record["files"]:
        kind, _, checksum = row["checksum"].rpartition(":")
        yield RemoteFile(
            url=row["links"]["self"],
            path=row["key"],
            size=row["size"],
            md5=checksum if kind in {"md5", ""} else None,
            sha256=checksum if kind == "sha256" else None,
            page=source.page,
        )


def _list_mendeley(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    base = f"{hosts.mendeley}/public-api/datasets/{source.record}"
    folders, _ = ask(f"{base}/folders/{source.version}")
    paths = {"root": ""} | {f["id"]: _mendeley_path(f, {g["id"]: g for g in folders}) for f in folders}
    for folder, path in paths.items():
        rows, _ = ask(f"{base}/files?folder_id={quote(folder)}&version={source.version}")
        for row in rows:
            content = row["content_details"]
            yield RemoteFile(
                url=content["download_url"],
                path=f"{path}{row['filename']}",
                size=row["size"],
                sha256=content["sha256_hash"],
                page=source.page,
            )


def _mendeley_path(folder: dict[str, Any], folders: dict[str, dict[str, Any]]) -> str:
    names = [folder["name"]]
    while (parent := folders.get(folder.get("parent_id") or "")) and len(names) <= len(folders):
        folder = parent
        names.append(folder["name"])
    return "".join(f"{name}/" for name in reversed(names))


def _list_figshare(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    """List by pages: the article itself names no more than ten of its files."""
    version = f"/versions/{source.version}" if source.version else ""
    url = f"{hosts.figshare}/v2/articles/{source.record}{version}/files"
    for offset in itertools.count(0, FIGSHARE_ROWS):
        rows, _ = ask(f"{url}?limit={FIGSHARE_ROWS}&offset={offset}")
        for row in rows:
            md5 = row.get("computed_md5") or row.get("supplied_md5") or None
            yield RemoteFile(url=row["download_url"], path=row["name"], size=row["size"], md5=md5, page=source.page)
        if len(rows) < FIGSHARE_ROWS:
            return


def _list_geo(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    """List the supplementary files of a series (GSE) or sample (GSM); GEO states neither exact sizes nor checksums."""
    kind = {"GSE": "series", "GSM": "samples"}[source.record[:3]]
    folder = f"{hosts.geo}/geo/{kind}/{source.record[:3]}{source.record[3:-3]}nnn/{source.record}/suppl/"
    page = _Links()
    page.feed(ask(folder).decode("utf-8", errors="replace"))
    for link in page.found:
        url = urljoin(folder, link)
        if url.startswith(folder) and (name := unquote(url.removeprefix(folder))) and not name.endswith("/"):
            yield RemoteFile(url=url, path=name, page=source.page)


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect one."""
        self.found += [v.partition("?")[0] for k, v in attrs if tag == "a" and k == "href" and v]


def _list_tenx(source: Source, hosts: Hosts, _: Ask) -> Iterator[RemoteFile]:
    name = source.record
    for file in TENX_FILES:
        url = f"{hosts.tenx}/samples/spatial-exp/{source.version}/{name}/{name}_{file}"
        yield RemoteFile(url=url, path=f"{name}_{file}", page=source.page)


def _list_github(source: Source, hosts: Hosts, ask: Ask) -> Iterator[RemoteFile]:
    tree, _ = ask(f"{hosts.github_api}/repos/{source.record}/git/trees/{source.version}?recursive=1")
    if tree.get("truncated"):
        raise FormatError(f"GitHub lists only a part of {source.record}; fetch it with git from {source.page}")
    for row in tree["tree"]:
        if row["type"] == "blob":
            url = _github_url(source, row["path"], hosts)
            yield RemoteFile(url=url, path=row["path"], size=row["size"], page=source.page)


def _github_url(source: Source, path: str, hosts: Hosts) -> str:
    return f"{hosts.github}/{source.record}/{source.version}/{quote(path)}"


LISTERS: dict[SourceKind, Callable[[Source, Hosts, Ask], Iterable[RemoteFile]]] = {
    "huggingface": _list_huggingface,
    "zenodo": _list_zenodo,
    "mendeley": _list_mendeley,
    "figshare": _list_figshare,
    "geo": _list_geo,
    "tenx": _list_tenx,
    "github": _list_github,
}

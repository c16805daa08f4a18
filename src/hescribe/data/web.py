"""Ask a host over HTTP: errors that may pass are told from those that will not, and a token goes to one host only.

The transport is requests: typed, unchanged for a decade, and it takes the token out when a redirect
leads to another host.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from hescribe import __version__
from hescribe.errors import DataAccessError, FormatError

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 18
MAX_PAGE = 256 << 20  # bytes of a host's answer that is no file
AGAIN = frozenset({408, 429, 500, 502, 503, 504})  # statuses that may be better later


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long a download is tried.

    Parameters
    ----------
    attempts
        In a row without a megabyte of progress.
    first_s, longest_s
        Wait after the first failure; it doubles up to the longest. A server that asks for more than the
        longest is told of, not waited for.
    timeout_s
        Silence that counts as a failure.
    sleep
        Called with the seconds to wait.
    """

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 120.0
    timeout_s: float = 60.0
    sleep: Callable[[float], object] = time.sleep


PATIENT = Patience()


class InterruptedTransfer(Exception):  # noqa: N818 - callers of wait_or_give_up turn it into an error
    """A failure that may pass: try again, after ``wait_s`` if the server says so."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        self.reason, self.wait_s = reason, wait_s
        super().__init__(reason)


def read_page(
    url: str, *, token: str | None = None, page: str = "", patience: Patience = PATIENT
) -> "tuple[bytes, requests.Response]":
    """Return a host's answer: its list of files, say. Raises as ``download`` does."""
    failures = 0
    while True:
        try:
            with open_url(url, {}, token, patience.timeout_s, page or url) as response:
                content = b"".join(read_pieces(response, MAX_PAGE, url))
                return content, response
        except InterruptedTransfer as error:
            failures += 1
            wait_or_give_up(error, failures, url, patience)


def wait_or_give_up(error: InterruptedTransfer, failures: int, url: str, patience: Patience) -> None:
    """Wait as the server asks, or ever longer; raise ``DataAccessError`` when it is enough."""
    if failures >= patience.attempts:
        raise DataAccessError(
            f"{url} failed {failures} times, at last because {error.reason}; what is there is kept, try again later"
        ) from error
    if error.wait_s is not None and error.wait_s > patience.longest_s:
        raise DataAccessError(
            f"{url}: {error.reason}, and it asks to wait {error.wait_s:.0f} s; what is there is kept: try again then"
        ) from error
    backoff = min(patience.longest_s, patience.first_s * 2 ** (failures - 1))
    patience.sleep(error.wait_s if error.wait_s is not None else backoff * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


@contextmanager
def open_url(
    url: str, headers: dict[str, str], token: str | None, timeout_s: float, page: str
) -> "Iterator[requests.Response]":
    """Yield the answer to a request, its body not yet read; a bad status is an error."""
    import requests  # noqa: PLC0415 - the command line starts fast

    def sign(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    headers = {"User-Agent": f"hescribe/{__version__}", "Accept-Encoding": "identity", **headers}
    try:
        response = requests.get(url, headers=headers, auth=sign if token else None, stream=True, timeout=timeout_s)
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
        raise DataAccessError(f"{url} leads nowhere: {error}") from error
    except requests.exceptions.SSLError as error:
        raise DataAccessError(f"{url} has no certificate that this machine trusts: {error}") from error
    except requests.RequestException as error:
        raise InterruptedTransfer(f"the server cannot be reached ({type(error).__name__})") from error
    with response:
        _check_status(response, url, page)
        yield response


def _check_status(response: "requests.Response", url: str, page: str) -> None:
    status = response.status_code
    if status in {200, 206, 416}:
        return
    if status in AGAIN:
        reason = "it asks for fewer requests (429)" if status == 429 else f"the server answered {status}"
        raise InterruptedTransfer(reason, _retry_after(response.headers.get("Retry-After", "")))
    if status in {401, 403}:
        raise DataAccessError(
            f"{url} is not given to you ({status}): accept the terms at {page}; for Hugging Face, then run "
            "`hf auth login` or set HF_TOKEN"
        )
    raise DataAccessError(f"{url} cannot be fetched: the server answered {status}; see {page}")


def _retry_after(text: str) -> float | None:
    """Return the seconds that a server asks to wait, as a number or a date; None if it does not."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def read_pieces(response: "requests.Response", limit: int, url: str) -> Iterator[bytes]:
    """Yield the body as it was sent, not unpacked; a cut is told from an end, and never more than ``limit`` comes."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with requests

    done = 0
    try:
        for piece in response.raw.stream(CHUNK, decode_content=False):
            done += len(piece)
            if done > limit:
                raise FormatError(f"{url} sends more than the {limit} bytes it may; nothing of it is taken")
            yield piece
    except (HTTPError, TimeoutError, ConnectionError) as error:
        raise InterruptedTransfer(f"the connection was cut after {done} bytes ({type(error).__name__})") from error

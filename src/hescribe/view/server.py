"""The viewer's server: on this machine only, with a token, and able to read nothing but the scene it was given."""

import hmac
import secrets
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from hescribe.errors import DataAccessError, HescribeError, InputError
from hescribe.view.page import SCRIPTS, describe, render_page, spot_bytes
from hescribe.view.scene import View
from hescribe.view.tiles import Tiles

COOKIE = "hescribe_view"
HOSTS = ("127.0.0.1", "localhost")
# WebGL compiles what calls its shaders from text, hence unsafe-eval; nothing that came from data is part of a script.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
REFUSED = "This viewer opens with the address that hescribe view printed, which holds its token."


class _Place(IntegerConvertor):
    """A number in an address, of no more digits than any list of ours is long."""

    regex = "[0-9]{1,9}"


register_url_convertor("place", _Place())


class Viewer:
    """Answers the browser.

    Sections, genes and layers are named by their place in a list, so that no name from a request reaches the disk.

    Parameters
    ----------
    scene
        Sections to show.
    """

    def __init__(self, scene: tuple[View, ...]) -> None:
        self.scene = scene
        self._tiles: dict[int, Tiles] = {}

    def view(self, request: Request) -> tuple[int, View]:
        """Return the place and the section that a request names."""
        at = int(request.path_params["section"])
        if at >= len(self.scene):
            raise InputError(f"there are {len(self.scene)} sections, no number {at}")
        return at, self.scene[at]

    def tiles(self, at: int) -> Tiles:
        """Return the tiles of a section with an image."""
        image = self.scene[at].image
        if image is None:
            raise InputError(f"section {self.scene[at].id} has no image")
        if at not in self._tiles:
            self._tiles = {at: Tiles(image)}  # of one section: a reduced copy of the image is in memory
        return self._tiles[at]

    def section(self, request: Request) -> Response:
        """Describe a section: size, genes, layers, domains, notes."""
        at, view = self.view(request)
        return _json(describe(view, None if view.image is None else self.tiles(at)))

    def spots(self, request: Request) -> Response:
        """Return x, y and novelty of all spots, float32, one after the other."""
        _, view = self.view(request)
        return _bytes(spot_bytes(view))

    def names(self, request: Request) -> Response:
        """Return the names of all spots."""
        return _json(self.view(request)[1].spot_names)

    def values(self, request: Request) -> Response:
        """Return one layer of one gene for all spots, float32."""
        _, view = self.view(request)
        gene, layer = int(request.path_params["gene"]), int(request.path_params["layer"])
        if gene >= len(view.genes) or layer >= len(view.layers):
            raise InputError(f"section {view.id} has {len(view.genes)} genes and {len(view.layers)} layers")
        return _floats(view.values(str(view.genes.index[gene]), view.layers[layer]))

    def domain(self, request: Request) -> Response:
        """Return which of its values each spot has of one column, float32."""
        _, view = self.view(request)
        codes = [c for _, c in view.domains.values()]
        at = int(request.path_params["column"])
        if at >= len(codes):
            raise InputError(f"section {view.id} has {len(codes)} columns of domains")
        return _floats(codes[at])

    def tile(self, request: Request) -> Response:
        """Return a tile of the image."""
        place = (int(request.path_params[k]) for k in ("level", "column", "row"))
        content = self.tiles(self.view(request)[0]).read(*place)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def create_app(scene: tuple[View, ...], token: str) -> Starlette:
    """Return the application.

    Parameters
    ----------
    scene
        Sections to show.
    token
        What the first address must hold; a cookie replaces it.
    """
    viewer, spot = Viewer(scene), "/section/{section:place}"
    routes = [
        Route("/", lambda _: HTMLResponse(render_page(scene))),
        Route("/script/{name}", _script),
        Route(spot, viewer.section),
        Route(f"{spot}/spots", viewer.spots),
        Route(f"{spot}/names", viewer.names),
        Route(spot + "/values/{gene:place}/{layer:place}", viewer.values),
        Route(spot + "/domain/{column:place}", viewer.domain),
        Route(spot + "/tile/{level:place}/{column:place}/{row:place}", viewer.tile),
    ]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        Middleware(BaseHTTPMiddleware, dispatch=_Guard(token)),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HescribeError: _refuse})


class _Guard:
    """Lets only the browser in that was given the token; a page of another site cannot ask in its name."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def __call__(self, request: Request, answer: RequestResponseEndpoint) -> Response:
        response: Response
        if self._is_token(request.query_params.get("token", "")):
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", path="/")
        elif self._is_token(request.cookies.get(COOKIE, "")):
            response = await answer(request)
        else:
            response = PlainTextResponse(REFUSED, status_code=403)
        response.headers.update(HEADERS)
        return response

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _script(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in SCRIPTS:
        raise HTTPException(404)
    kind = "text/css" if name.endswith(".css") else "text/javascript"
    return Response(SCRIPTS[name](), media_type=kind)


async def _refuse(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status_code=404)


def serve(scene: tuple[View, ...], port: int, *, started: Callable[[str], None]) -> None:
    """Answer on 127.0.0.1 until interrupted.

    Parameters
    ----------
    scene
        Sections to show.
    port
        0 takes a free one.
    started
        Called with the address to open, token included.

    Raises
    ------
    DataAccessError
        If the port is taken.
    """
    token = secrets.token_urlsafe(24)
    app = create_app(scene, token)
    with socket.socket() as listening:
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise DataAccessError(f"port {port} cannot be had ({error.strerror}); give another --port") from error
        started(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def _bytes(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


def _floats(values: np.ndarray) -> Response:
    return _bytes(values.astype("<f4").tobytes())


def _json(data: Any) -> Response:
    return JSONResponse(data)

"""The web application: which address shows what. It reads, and never writes."""

import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from wsi_mil.config import Scale
from wsi_mil.errors import StoreError, UnknownNameError
from wsi_mil.heatmaps.overlay import colormap_faults
from wsi_mil.view.catalogue import Catalogue, Entry
from wsi_mil.view.deepzoom import Pyramid, View
from wsi_mil.view.hosts import LOCAL_NAMES, KnownHosts
from wsi_mil.view.layer import Layer, Layers, colour_bar
from wsi_mil.view.outlines import outlines
from wsi_mil.view.pages import SCALES, cohort_page, line_about, slide_page
from wsi_mil.view.slide_images import Grounds, jpeg

STATIC = Path(__file__).parent / "static"
OPENSEADRAGONS_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""Of the one rule that OpenSeadragon 6.1.1 puts into the page by itself, for touch screens."""

POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGONS_STYLE}; img-src 'self' data: blob:"
    "; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SAFETY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
UNCHANGING = "private, max-age=86400, immutable"
"""Of what has its version in its address."""

SHORTLY = "private, max-age=60"

FRESH_S = 2.0
"""A results folder is looked through again for the first request after so long."""

THUMBNAIL_PX, TOP_TILE_PX, TOP_TILES = 240, 120, 12

Answer = Callable[[Request], Response]


class _Small(Convertor[int]):
    """Whole numbers in addresses, of so few digits that everything can be reckoned with them."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("small", _Small())


class Viewer:
    """What the addresses show.

    Attributes:
        grounds: slides.
        layers: scores.
    """

    def __init__(self, catalogue: Catalogue):
        self._first = catalogue
        self._lock = threading.Lock()
        self._seen: tuple[float, Catalogue] = (0.0, catalogue)
        self.grounds, self.layers = Grounds(), Layers()

    @property
    def catalogue(self) -> Catalogue:
        """The results folder as it is now, or was `FRESH_S` ago."""
        with self._lock:
            at, found = self._seen
            if time.monotonic() > at + FRESH_S:
                found = replace(self._first)
                self._seen = (time.monotonic(), found)
            return found

    def cohort(self, request: Request) -> Response:
        """The cohort page, with the predictions of `?entry=encoder/model`, or of the first."""
        catalogue = self.catalogue
        return HTMLResponse(cohort_page(catalogue, _entry(catalogue, request)))

    def lines(self, request: Request) -> Response:
        """What the cohort page says of every slide, for what goes from one to the next."""
        catalogue = self.catalogue
        return JSONResponse([line_about(line) for line in catalogue.lines(_entry(catalogue, request))])

    def slide(self, request: Request) -> Response:
        """The page of a slide."""
        catalogue, name = self.catalogue, request.path_params["slide_id"]
        return HTMLResponse(slide_page(catalogue, name, self.grounds.of(catalogue, name)))

    def thumbnail(self, request: Request) -> Response:
        """JPEG of a whole slide."""
        content = self.grounds.thumbnail(self.catalogue, request.path_params["slide_id"], THUMBNAIL_PX)
        return _picture(content, "jpeg", keep=SHORTLY)

    def ground(self, request: Request) -> Response:
        """JPEG tile of a slide."""
        at = request.path_params
        place = (at["level"], at["column"], at["row"])
        return _picture(self.grounds.tile(self.catalogue, at["slide_id"], at["version"], place), "jpeg")

    def outlines(self, request: Request) -> Response:
        """Rings of truth or tissue."""
        at = request.path_params
        return JSONResponse(outlines(self.catalogue, at["slide_id"], at["kind"], at["tiling"]))

    def layer(self, request: Request) -> Response:
        """What there is to know of a layer: its colour bar, its meaning, its best tiles."""
        layer = self._layer(request)
        scored, shown, colormap = layer.scored, layer.scored.display, _colormap(request.query_params.get("map", "viridis"))
        return JSONResponse(
            {
                "version": layer.version,
                "label": shown.label,
                "note": layer.note,
                "low": shown.low,
                "high": shown.high,
                "is_log": shown.is_log,
                "ceiling": shown.ceiling,
                "kind": scored.metadata.get("kind", ""),
                "unit": scored.metadata["unit"],
                "reason": scored.metadata.get("reason", ""),
                "n": len(layer.tiles),
                "top": layer.top(TOP_TILES, colormap),
            }
        )

    def overlay(self, request: Request) -> Response:
        """PNG tile of a layer."""
        at, layer = request.path_params, self._layer(request)
        pyramid = Pyramid(layer.scored.grid.dimensions)
        view = pyramid.view(at["level"], at["column"], at["row"])
        return _picture(layer.picture(view, _colormap(at["map"]), at["threshold"] / 1000), "png")

    def at(self, request: Request) -> Response:
        """The score at `?x=&y=`, level-0 pixels; null where no tile is."""
        layer = self._layer(request)
        try:
            x, y = (float(request.query_params[name]) for name in "xy")
        except (KeyError, ValueError) as error:
            raise UnknownNameError("give x and y, numbers") from error
        return JSONResponse(layer.at(x, y))

    def top_tile(self, request: Request) -> Response:
        """JPEG of a tile from the slide."""
        at, layer = request.path_params, self._layer(request)
        left, top, right, bottom = layer.box_of(at["index"])
        step = max(1, round(max(right - left, bottom - top) / TOP_TILE_PX))
        size = max(1, round((right - left) / step)), max(1, round((bottom - top) / step))
        return _picture(
            jpeg(self.grounds.region(self.catalogue, at["slide_id"], View((int(left), int(top)), size, step))), "jpeg"
        )

    def colours(self, request: Request) -> Response:
        """PNG of a colour map."""
        return _picture(colour_bar(_colormap(request.path_params["map"])), "png")

    def _layer(self, request: Request) -> Layer:
        at = request.path_params
        if at["scale"] not in SCALES:
            raise UnknownNameError(f"no scale {at['scale']}")
        scale: Scale = at["scale"]
        return self.layers.of(self.catalogue, at["slide_id"], Entry(at["encoder"], at["model"]), at["method"], scale)


def create_app(catalogue: Catalogue, *, names: tuple[str, ...] = LOCAL_NAMES) -> Starlette:
    """The application.

    Args:
        catalogue: the results folder.
        names: that a browser may call it by, beside its address in numbers.
    """
    viewer = Viewer(catalogue)
    slide, tile = "/slides/{slide_id}", "{level:small}/{column:small}_{row:small}"
    layer = slide + "/layers/{encoder}/{model}/{method}/{scale}"
    routes: dict[str, Answer] = {
        "/": viewer.cohort,
        "/lines.json": viewer.lines,
        slide: viewer.slide,
        f"{slide}/thumbnail.jpg": viewer.thumbnail,
        f"{slide}/ground/{{version}}/{tile}.jpg": viewer.ground,
        f"{slide}/outlines/{{kind}}/{{tiling}}.json": viewer.outlines,
        f"{layer}/about.json": viewer.layer,
        f"{layer}/at.json": viewer.at,
        f"{layer}/tiles/{{index:small}}.jpg": viewer.top_tile,
        f"{layer}/{{map}}/{{threshold:small}}/{tile}.png": viewer.overlay,
        "/colours/{map}.png": viewer.colours,
    }
    return Starlette(
        routes=[
            *(Route(path, _answering(answer), methods=["GET"]) for path, answer in routes.items()),
            Route("/favicon.ico", _icon),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(_Safety),
            Middleware(KnownHosts, names=names),
        ],
    )


class _Safety:
    """Puts the headers of `SAFETY` on every answer."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                found = [(name.lower().encode(), value.encode()) for name, value in SAFETY.items()]
                message["headers"] = [*message["headers"], *found]
            await send(message)

        await self._app(scope, receive, safely)


def _answering(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers in a thread: 404 for what is not there, 409 in words for what cannot be read."""

    def answered(request: Request) -> Response:
        try:
            return answer(request)
        except UnknownNameError as error:
            return PlainTextResponse(f"not found: {error}", 404)
        except StoreError as error:
            return JSONResponse({"reason": str(error)}, 409)

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answered, request)

    return endpoint


async def _icon(_: Request) -> Response:
    return RedirectResponse("/static/icon.svg")


def _entry(catalogue: Catalogue, request: Request) -> Entry | None:
    """The encoder × model that `?entry=` names; without it the first, or none."""
    encoder, _, model = request.query_params.get("entry", "").partition("/")
    return catalogue.entry(encoder, model) if encoder else next(iter(catalogue.entries), None)


def _colormap(name: str) -> str:
    if colormap_faults(name):
        raise UnknownNameError(f"no colour map {name}")
    return name


def _picture(content: bytes, kind: str, *, keep: str = UNCHANGING) -> Response:
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": keep})

"""The web application: its routes and responses. It never writes files."""

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
from wsi_mil.heatmaps.colour_maps import colormap_faults
from wsi_mil.view.catalogue import Catalogue, Entry
from wsi_mil.view.deepzoom import Pyramid, View
from wsi_mil.view.hosts import LOCAL_NAMES, HostCheck
from wsi_mil.view.layer import Layer, LayerCache, colour_bar
from wsi_mil.view.outlines import outlines
from wsi_mil.view.pages import SCALES, cohort_page, cohort_row_json, other_columns, slide_page
from wsi_mil.view.slide_images import SlideImages, jpeg
from wsi_mil.view.tiles import TilesCache, tiles_page

STATIC = Path(__file__).parent / "static"
OPENSEADRAGON_STYLE_HASH = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""Hash of the style rule that OpenSeadragon 6.1.1 adds to the page for touch screens."""

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGON_STYLE_HASH}; img-src 'self' data: blob:"
    "; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
VERSIONED_CACHE = "private, max-age=86400, immutable"
"""Cache-Control for versioned URLs."""

BRIEF_CACHE = "private, max-age=60"
"""Cache-Control for images whose URL has no version."""

CATALOGUE_MAX_AGE_S = 2.0
"""Seconds after which the next request scans the results folder again."""

THUMBNAIL_PX, TOP_TILE_PX, TOP_TILES = 240, 120, 12

Answer = Callable[[Request], Response]


class _ShortInteger(Convertor[int]):
    """Converter of URL parts that are integers of at most nine digits, so that arithmetic with them stays cheap."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("small", _ShortInteger())


class Viewer:
    """Responses to all URLs.

    Attributes:
        images: images of slides.
        layers: cache of heatmap layers.
        highest: cache of the highest scoring tiles.
    """

    def __init__(self, catalogue: Catalogue):
        self._initial = catalogue
        self._lock = threading.Lock()
        self._latest: tuple[float, Catalogue] = (0.0, catalogue)
        self.images = SlideImages()
        self.layers = LayerCache()
        self.highest = TilesCache()

    @property
    def catalogue(self) -> Catalogue:
        """Content of the results folder, at most `CATALOGUE_MAX_AGE_S` old."""
        with self._lock:
            created, catalogue = self._latest
            if time.monotonic() > created + CATALOGUE_MAX_AGE_S:
                catalogue = replace(self._initial)  # without its cached properties
                self._latest = (time.monotonic(), catalogue)
            return catalogue

    def cohort(self, request: Request) -> Response:
        """Return the cohort page of `?target=` with the predictions of `?entry=encoder/model`, or of the first ones."""
        catalogue = self.catalogue
        return HTMLResponse(cohort_page(catalogue, *_chosen(catalogue, request)))

    def tiles(self, request: Request) -> Response:
        """Return the page with the highest scoring tiles of all slides."""
        catalogue = self.catalogue
        return HTMLResponse(tiles_page(catalogue, *_chosen(catalogue, request), self.highest))

    def cohort_rows(self, request: Request) -> Response:
        """Return the rows of the cohort page as JSON, from which slide pages find the next slide of the list."""
        catalogue = self.catalogue
        target, entry = _chosen(catalogue, request)
        others = other_columns(catalogue, target, entry)
        return JSONResponse([cohort_row_json(row, others) for row in catalogue.cohort_rows(target, entry)])

    def slide(self, request: Request) -> Response:
        """Return the page of a slide."""
        catalogue = self.catalogue
        slide_id = request.path_params["slide_id"]
        return HTMLResponse(slide_page(catalogue, slide_id, self.images.find(catalogue, slide_id)))

    def thumbnail(self, request: Request) -> Response:
        """Return a JPEG of a whole slide."""
        content = self.images.thumbnail(self.catalogue, request.path_params["slide_id"], THUMBNAIL_PX)
        return _image_response(content, "jpeg", cache_control=BRIEF_CACHE)

    def slide_tile(self, request: Request) -> Response:
        """Return a JPEG tile of a slide."""
        params = request.path_params
        position = (params["level"], params["column"], params["row"])
        return _image_response(self.images.tile(self.catalogue, params["slide_id"], params["version"], position), "jpeg")

    def outlines(self, request: Request) -> Response:
        """Return the outlines of annotations or tissue as JSON."""
        params = request.path_params
        return JSONResponse(outlines(self.catalogue, params["slide_id"], params["kind"], params["tiling"]))

    def layer(self, request: Request) -> Response:
        """Return the description of a layer as JSON: its colour bar, its meaning, its highest scoring tiles."""
        layer = self._layer(request)
        scored = layer.scored
        shown = scored.display
        colormap = _colormap(request.query_params.get("map", "viridis"))
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
        """Return a PNG tile of a layer."""
        params = request.path_params
        layer = self._layer(request)
        pyramid = Pyramid(layer.scored.grid.dimensions)
        view = pyramid.view(params["level"], params["column"], params["row"])
        return _image_response(layer.picture(view, _colormap(params["map"]), params["threshold"] / 1000), "png")

    def score_at(self, request: Request) -> Response:
        """Return the score at `?x=&y=`, level-0 pixels, as JSON; null outside of tiles."""
        layer = self._layer(request)
        try:
            x, y = (float(request.query_params[name]) for name in "xy")
        except (KeyError, ValueError) as error:
            raise UnknownNameError("x and y must be given, as numbers") from error
        return JSONResponse(layer.at(x, y))

    def top_tile(self, request: Request) -> Response:
        """Return a JPEG of a tile, cut from the slide."""
        params = request.path_params
        left, top, right, bottom = self._layer(request).box_of(params["index"])
        step = max(1, round(max(right - left, bottom - top) / TOP_TILE_PX))
        size = max(1, round((right - left) / step)), max(1, round((bottom - top) / step))
        region = self.images.region(self.catalogue, params["slide_id"], View((int(left), int(top)), size, step))
        return _image_response(jpeg(region), "jpeg")

    def colour_bar(self, request: Request) -> Response:
        """Return a PNG of a colour map."""
        return _image_response(colour_bar(_colormap(request.path_params["map"])), "png")

    def _layer(self, request: Request) -> Layer:
        params = request.path_params
        if params["scale"] not in SCALES:
            raise UnknownNameError(f"no scale {params['scale']}")
        scale: Scale = params["scale"]
        entry = Entry(params["target"], params["encoder"], params["model"])
        return self.layers.layer(self.catalogue, params["slide_id"], entry, params["method"], scale)


def create_app(catalogue: Catalogue, *, names: tuple[str, ...] = LOCAL_NAMES) -> Starlette:
    """Create the application.

    Args:
        catalogue: the results folder.
        names: accepted host names, besides IP addresses.
    """
    viewer = Viewer(catalogue)
    slide = "/slides/{slide_id}"
    tile = "{level:small}/{column:small}_{row:small}"
    layer = slide + "/layers/{target}/{encoder}/{model}/{method}/{scale}"
    routes: dict[str, Answer] = {
        "/": viewer.cohort,
        "/cohort.json": viewer.cohort_rows,
        "/tiles": viewer.tiles,
        slide: viewer.slide,
        f"{slide}/thumbnail.jpg": viewer.thumbnail,
        f"{slide}/image/{{version}}/{tile}.jpg": viewer.slide_tile,
        f"{slide}/outlines/{{kind}}/{{tiling}}.json": viewer.outlines,
        f"{layer}/about.json": viewer.layer,
        f"{layer}/at.json": viewer.score_at,
        f"{layer}/tiles/{{index:small}}.jpg": viewer.top_tile,
        f"{layer}/{{map}}/{{threshold:small}}/{tile}.png": viewer.overlay,
        "/colours/{map}.png": viewer.colour_bar,
    }
    return Starlette(
        routes=[
            *(Route(path, _endpoint(answer), methods=["GET"]) for path, answer in routes.items()),
            Route("/favicon.ico", _icon),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(_SecurityHeaders),
            Middleware(HostCheck, names=names),
        ],
    )


class _SecurityHeaders:
    """Middleware that adds `SECURITY_HEADERS` to every response."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _endpoint(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that runs in a thread and answers 404 for unknown names, 409 with a reason for unreadable files."""

    def respond(request: Request) -> Response:
        try:
            return answer(request)
        except UnknownNameError as error:
            return PlainTextResponse(f"not found: {error}", 404)
        except StoreError as error:
            return JSONResponse({"reason": str(error)}, 409)

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(respond, request)

    return endpoint


async def _icon(_: Request) -> Response:
    return RedirectResponse("/static/icon.svg")


def _chosen(catalogue: Catalogue, request: Request) -> tuple[str, Entry | None]:
    """The target named by `?target=`, and its encoder × model by `?entry=`; by default the first ones, None if there is none."""
    target = catalogue.target(request.query_params.get("target", ""))
    encoder, _, model = request.query_params.get("entry", "").partition("/")
    return target, catalogue.entry_or_first(target, encoder, model)


def _colormap(name: str) -> str:
    if colormap_faults(name):
        raise UnknownNameError(f"no colour map {name}")
    return name


def _image_response(content: bytes, kind: str, *, cache_control: str = VERSIONED_CACHE) -> Response:
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": cache_control})

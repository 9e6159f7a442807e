"""The page with the highest scoring tiles of all slides, for each model and each output of a target."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsi_mil.config import Config, drawn_methods
from wsi_mil.files import write_text
from wsi_mil.heatmaps.cohort_tiles import CohortTile, OutputTiles, highest_tiles
from wsi_mil.heatmaps.gallery import Corner, read_tiles
from wsi_mil.receipts import read_tile_receipt
from wsi_mil.records import SlideRow, Status
from wsi_mil.report.cohort import Cohort
from wsi_mil.report.pictures import jpeg_url, smaller
from wsi_mil.report.registry import report_of
from wsi_mil.report.templating import render
from wsi_mil.results import Results
from wsi_mil.tasks import task_of
from wsi_mil.trust import UNTESTED, Trust, TrustLine, output_line, read_trust
from wsi_mil.wording import listed

TILE_PX, QUALITY = 150, 80
MAX_TILES = 600
"""Upper limit on the tiles of a page, about 5 MB; further models are named."""


@dataclass(frozen=True)
class ModelTiles:
    """The highest scoring tiles of an encoder × model.

    Attributes:
        encoder: entry of `encoders`.
        model: entry of `models`.
        outputs: the tiles of each output; none if no method has scores that can be compared between slides.
        drawn: methods that have heatmaps.
        trust: what is known of the model and its methods.
    """

    encoder: str
    model: str
    outputs: Sequence[OutputTiles]
    drawn: Sequence[str]
    trust: Trust = UNTESTED

    @property
    def name(self) -> str:
        """Name of encoder and model, as the pages show it."""
        return f"{self.encoder} · {self.model}"

    @property
    def is_as_published(self) -> bool:
        """Whether its epoch may have been chosen on slides of the page."""
        return any(output.is_as_published for output in self.outputs)

    def line(self, output: OutputTiles) -> TrustLine:
        """Return what is known of the scores for an output."""
        return output_line(self.trust, output.output, output.method)

    @property
    def tiles(self) -> list[CohortTile]:
        """Tiles of all outputs."""
        return [tile for output in self.outputs for tile in output.tiles]


@dataclass
class Pictures:
    """Pictures of tiles as data URLs, by tiling, slide and corner; and why slides could not be read, by slide_id."""

    urls: dict[tuple[str, str, Corner], str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def write_tile_pages(cohort: Cohort, folder: Path, readable: Iterable[int]) -> None:
    """Write `{target}.tiles.html` for each target.

    Args:
        cohort: the slides of the run.
        folder: of the report.
        readable: indices of the rows whose slide files may be read, in increasing order; it may be longer than the rows.
    """
    config = cohort.config
    usable = [row for row in cohort.rows if cohort.status[row.slide_id] is Status.OK]
    pages = {target: _models_of(config, target, usable) for target in config.targets}
    shown = {target: _that_fit(models) for target, models in pages.items()}
    pictures = _read_pictures(cohort.rows, [model for models in shown.values() for model in models], config, readable)
    for target, models in pages.items():
        html = render(
            "tiles.html",
            config=config,
            target=target,
            task_report=report_of(task_of(config.targets[target])),
            rows={row.slide_id: row.for_target(target) for row in usable},
            models=shown[target],
            not_shown=models[len(shown[target]) :],
            pictures=pictures,
            side_px=TILE_PX,
            listed=listed,
        )
        write_text(folder / Results(config.results).target(target).tiles_page.name, html)


def _models_of(config: Config, target: str, usable: Sequence[SlideRow]) -> list[ModelTiles]:
    """The highest tiles of each encoder × model of a target that has scores."""
    results, found = Results(config.results).target(target), []
    for encoder, model in config.combinations(target):
        drawn = drawn_methods(config, target, encoder, model)
        paths = [results.scores_receipt(encoder, model, row.slide_id) for row in usable] if drawn else []
        trust = read_trust(results.trust(encoder, model))
        found.append(ModelTiles(encoder, model, highest_tiles(paths), drawn, trust))
    return found


def _that_fit(models: Sequence[ModelTiles]) -> list[ModelTiles]:
    """The first models, as many as fit on a page, but one at least."""
    n_tiles, fitting = 0, list[ModelTiles]()
    for model in models:
        n_tiles += len(model.tiles)
        if fitting and n_tiles > MAX_TILES:
            break
        fitting.append(model)
    return fitting


def _read_pictures(rows: Sequence[SlideRow], models: Sequence[ModelTiles], config: Config, readable: Iterable[int]) -> Pictures:
    """Read the tiles of all models, slide by slide."""
    wanted: dict[str, dict[str, dict[Corner, None]]] = {}
    for model in models:
        for tile in model.tiles:
            tiling = config.encoders[model.encoder].tiling
            wanted.setdefault(tile.slide_id, {}).setdefault(tiling, {})[tile.corner] = None
    pictures = Pictures(reasons=dict.fromkeys(wanted, "the file could not be read"))
    for number in readable:
        if number >= len(rows):
            break
        row = rows[number]
        pictures.reasons.pop(row.slide_id, None)
        for tiling, corners in wanted.get(row.slide_id, {}).items():
            receipt = read_tile_receipt(Results(config.results).tiles_receipt(tiling, row.slide_id))
            seen = read_tiles(row, receipt, corners)
            pictures.reasons |= {row.slide_id: seen.reason} if seen.reason else {}
            urls = {corner: jpeg_url(smaller(image, TILE_PX), QUALITY) for corner, image in seen.images.items()}
            pictures.urls |= {(tiling, row.slide_id, corner): url for corner, url in urls.items()}
    return pictures

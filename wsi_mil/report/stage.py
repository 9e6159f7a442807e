"""Stage `report`: put the results of all stages on self-contained pages that open from disk."""

from collections.abc import Iterable
from pathlib import Path

from wsi_mil.config import Config
from wsi_mil.files import write_text
from wsi_mil.records import SlideRow
from wsi_mil.report.cohort import read_cohort
from wsi_mil.report.summary import INDEX, describe_slides, learned_from
from wsi_mil.report.target_page import write_target
from wsi_mil.report.templating import installed_versions, render
from wsi_mil.report.tiles_page import write_tile_pages

PACKAGES = ("wsi_mil", "torch", "timm", "zarr", "openslide-python", "snakemake")


def write_report(rows: Iterable[SlideRow], config: Config, folder: Path, *, readable: Iterable[int] | None = None) -> None:
    """Write the overview, for each target its page and that of its highest scoring tiles, and a table of batch effects.

    Args:
        rows: all rows of the sheet.
        config: the whole configuration.
        folder: gets index.html, and {target}.html, {target}.tiles.html and {target}.batch_effects.csv for each target.
        readable: indices of the rows whose slide files may be read, in increasing order; None: all of them.
    """
    cohort = read_cohort(list(rows), config)
    write_tile_pages(
        cohort, folder, range(len(cohort.rows)) if readable is None else readable
    )  # first: a crash of a reader starts all again
    targets = [write_target(cohort, name, folder / f"{name}.html") for name in config.targets]
    html = render(
        "index.html",
        config=config,
        cohort=cohort,
        targets=targets,
        cohort_sentences=describe_slides(cohort.rows, cohort.status),
        learned_from=learned_from([entry.of for entry in config.encoders.values()]),
        versions=installed_versions(PACKAGES),
    )
    write_text(folder / INDEX, html)

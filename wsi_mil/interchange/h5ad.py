"""AnnData files (.h5ad) of the tiles of one slide, or of several. Features are copied from store to file some rows at a time."""

from collections.abc import Sequence
from pathlib import Path

from wsi_mil.interchange.annotated import annotated, background, float32_blocks, hires_scale
from wsi_mil.interchange.hdf5 import add_matrix
from wsi_mil.interchange.slide_tiles import SlideTiles

NAME = "anndata"


def write_h5ad(path: Path, slides: Sequence[SlideTiles], *, image: bool) -> None:
    """Write a file with tiles as observations, to a temporary file that is then renamed.

    Args:
        path: the file.
        slides: at least one, with features of one encoder.
        image: with the thumbnail of each slide, where Squidpy looks for it.

    Raises:
        StoreError: a shard of a store is missing or damaged.
    """
    table = annotated(slides)
    pictured = {slide.slide_id: picture for slide in slides if image and (picture := background(slide)) is not None}
    for slide in slides:
        if slide.slide_id in pictured:
            factors = table.uns["spatial"][slide.slide_id]["scalefactors"]
            factors["tissue_hires_scalef"] = hires_scale(pictured[slide.slide_id], slide)
            table.uns["spatial"][slide.slide_id]["images"]["hires"] = pictured[slide.slide_id]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        table.write_h5ad(part)
        add_matrix(part, "X", table.shape, float32_blocks(slides))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""Readers of slides: one record for each.

`slide.reader`, the order of `auto`, the schema and the tables of the documentation follow from these records. To add one:
docs/add_a_slide_reader.md.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

JPEG_TIFF, OPENSLIDE, TIFFSLIDE, IMAGE = "jpeg_tiff", "openslide", "tiffslide", "image"
"""Names of the readers."""


@dataclass(frozen=True)
class ReaderRecord:
    """A way to open a slide file.

    Attributes:
        name: as in `slide.reader`, and in receipts.
        sentence: what it reads, and how.
        implementation: "module:class" of a `wsi_mil.slides.slide.Slide`.
    """

    name: str
    sentence: str
    implementation: str


READERS: dict[str, ReaderRecord] = {
    record.name: record
    for record in (
        ReaderRecord(
            name=JPEG_TIFF,
            sentence="TIFFs of JPEG tiles (Aperio and many others); decodes each tile of the file once",
            implementation="wsi_mil.slides.jpeg_tiff_reader:JpegTiffReader",
        ),
        ReaderRecord(
            name=OPENSLIDE,
            sentence="what OpenSlide reads",
            implementation="wsi_mil.slides.openslide_reader:OpenSlideReader",
        ),
        ReaderRecord(
            name=TIFFSLIDE,
            sentence="TIFFs that OpenSlide refuses, and slides on a server in place",
            implementation="wsi_mil.slides.tiffslide_reader:TiffSlideReader",
        ),
        ReaderRecord(
            name=IMAGE,
            sentence="plain images (PNG, JPEG, BMP, TIFF), held in memory",
            implementation="wsi_mil.slides.image_reader:ImageReader",
        ),
    )
}
"""By name: the fastest that gives OpenSlide's pixels first, then what opens the rest."""

if TYPE_CHECKING:  # names stand in the records alone; settings are validated against them when they are read
    Reader = str
else:
    Reader = Literal[("auto", *READERS)]

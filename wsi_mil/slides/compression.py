"""Compression of a TIFF's pixels."""

from pathlib import Path

import tifffile


def tiff_compression(path: Path | str, dimensions: tuple[int, int]) -> str:
    """Return the compression of the image of `dimensions` (width, height) in a local TIFF; "" for any other file."""
    if not isinstance(path, Path):
        return ""
    try:
        with tifffile.TiffFile(path) as tif:
            sizes = ((page, (page.imagewidth, page.imagelength)) for page in tif.pages if isinstance(page, tifffile.TiffPage))
            return next((tifffile.COMPRESSION(page.compression).name for page, size in sizes if size == dimensions), "")
    except MemoryError:
        raise
    except Exception:  # tifffile raises anything from KeyError to struct.error on damaged files and on other formats
        return ""

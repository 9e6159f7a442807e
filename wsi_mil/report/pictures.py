"""Images embedded in the page."""

import base64
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

EFFORT = 4
"""Compression effort of WebP, 0 to 6."""


def read_smaller(path: Path, side_px: int) -> Image.Image:
    """Read an image file in RGB, reduced to a longest side of at most `side_px`.

    Raises:
        OSError: the file is missing, or is not an image.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    return smaller(image, side_px)


def smaller(image: Image.Image, side_px: int) -> Image.Image:
    """Return a copy of an image, reduced to a longest side of at most `side_px`."""
    copy = image.copy()
    copy.thumbnail((side_px, side_px))
    return copy


def jpeg_url(image: Image.Image, quality: int) -> str:
    """Return an image as the data URL of a JPEG; quality from 1 to 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def webp_url(image: Image.Image, quality: int | None) -> str:
    """Return an image as the data URL of a WebP; quality from 1 to 100, None for lossless."""
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=quality is None, quality=quality or 80, method=EFFORT, exact=False)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def largest_url(draw: Callable[[int], str], sides: Iterable[int], most: int) -> str:
    """Return the URL of the image with the largest side that has at most `most` characters, else of that with the last side.

    Args:
        draw: function that returns the URL of the image with a given side.
        sides: sides in decreasing order. A side is skipped if its URL would be too long even if the length were proportional
            to the area, which is the best case.
        most: upper limit on characters.
    """
    url, largest = "", math.inf
    for side in sides:
        if side <= largest:
            url = draw(side)
            if len(url) <= most:
                break
            largest = side * (most / len(url)) ** 0.5
    return url if len(url) <= most else draw(side)

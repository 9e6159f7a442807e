"""Pictures that stand in the page itself."""

import base64
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

EFFORT = 4
"""Of WebP, 0 to 6."""


def read_smaller(path: Path, side_px: int) -> Image.Image:
    """A picture file in RGB, its longest side no longer than `side_px`.

    Raises:
        OSError: no such file, or no picture.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    return smaller(image, side_px)


def smaller(image: Image.Image, side_px: int) -> Image.Image:
    """A picture whose longest side is no longer than `side_px`."""
    copy = image.copy()
    copy.thumbnail((side_px, side_px))
    return copy


def jpeg_url(image: Image.Image, quality: int) -> str:
    """A picture as a data URL, of a JPEG's quality from 1 to 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def webp_url(image: Image.Image, quality: int | None) -> str:
    """A picture as a data URL, of a WebP's quality from 1 to 100; None: every pixel as it is."""
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=quality is None, quality=quality or 80, method=EFFORT, exact=False)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def largest_url(draw: Callable[[int], str], sides: Iterable[int], most: int) -> str:
    """The picture of a side whose URL has no more than `most` characters, or that of the last side.

    Args:
        draw: the URL of a picture of that side.
        sides: the largest first. Those are passed over that would be too large even if a picture took room by its area,
            which it does at most.
        most: characters.
    """
    url, largest = "", math.inf
    for side in sides:
        if side <= largest:
            url = draw(side)
            if len(url) <= most:
                break
            largest = side * (most / len(url)) ** 0.5
    return url if len(url) <= most else draw(side)

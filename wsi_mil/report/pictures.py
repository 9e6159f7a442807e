"""Pictures that stand in the page itself."""

import base64
import io
from pathlib import Path

from PIL import Image


def read_smaller(path: Path, side_px: int) -> Image.Image:
    """A picture file in RGB, its longest side no longer than `side_px`.

    Raises:
        OSError: no such file, or no picture.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((side_px, side_px))
    return image


def jpeg_url(image: Image.Image, quality: int) -> str:
    """A picture as a data URL, of a JPEG's quality from 1 to 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

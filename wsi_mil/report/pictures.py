"""Pictures that stand in the page itself."""

import base64
import io
from pathlib import Path

from PIL import Image


def jpeg_url(path: Path, *, side_px: int, quality: int) -> tuple[str, tuple[int, int]]:
    """A picture as a data URL, and its (width, height).

    Args:
        path: a picture file.
        side_px: longest side that it is made smaller to; a smaller picture stays as it is.
        quality: of the JPEG, 1 to 95.

    Raises:
        OSError: no such file, or no picture.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((side_px, side_px))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", image.size

"""Text in pictures, and pictures as PNG."""

import io
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PNG_EFFORT = 1
DPI = 130
"""Resolution that a picture declares, for programs that print it or place it in a page."""

Colour = tuple[int, int, int]
TEXT_COLOUR = (20, 20, 20)
WARNING_COLOUR, ON_WARNING_COLOUR = (176, 0, 32), (255, 255, 255)
"""Background and text of the banner of a picture that is not to be interpreted."""

UNKNOWN = "\uffff"
"""A character that no font has."""


def png(image: Image.Image) -> bytes:
    """Return a PNG file.

    Tissue has few repeats to search for: with the least effort a picture is at most 5 % larger, in a third of the time.
    """
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=PNG_EFFORT, dpi=(DPI, DPI))
    return file.getvalue()


@lru_cache(maxsize=8)
def font(px: int) -> ImageFont.FreeTypeFont:
    """Return the font of the pictures (DejaVu Sans, which has µ, × and the alphabets of Europe) in a size in pixels."""
    return ImageFont.truetype(_font_file(), px)


def text_width(text: str, px: int) -> int:
    """Return the width in pixels of a line of text in a size."""
    return round(font(px).getlength(text))


def wrapped(text: str, px: int, width: int) -> list[str]:
    r"""Return text in lines of at most `width` pixels, broken at blanks, and within words that are longer than a line.

    Characters that the font does not have are written as their code, such as \u75c5, since boxes would all look the same.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for piece in (part for word in _legible(paragraph).split() for part in _pieces(word, px, width)):
            longer = f"{line} {piece}".lstrip()
            if line and text_width(longer, px) > width:
                lines.append(line)
                longer = piece
            line = longer
        lines += [line] if line else []
    return lines


def draw_lines(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    lines: list[str],
    px: int,
    *,
    centred: bool = False,
    fill: Colour = TEXT_COLOUR,
) -> None:
    """Draw lines of text, at the top left corner `at` (x, y), or centred on its x."""
    for number, line in enumerate(lines):
        x = at[0] - (text_width(line, px) // 2 if centred else 0)
        draw.text((x, at[1] + number * line_height(px)), line, fill=fill, font=font(px))


def line_height(px: int) -> int:
    """Return the distance in pixels between lines of text in a size."""
    return round(1.35 * px)


def _pieces(word: str, px: int, width: int) -> list[str]:
    """Parts of a word that each fit into a line."""
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character, px) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _legible(text: str) -> str:
    return text if text.isascii() else "".join(character if _has_glyph(character) else _code(character) for character in text)


def _code(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=1024)
def _has_glyph(character: str) -> bool:
    """Whether the font draws a character otherwise than one that it cannot have."""
    if character.isascii() or character.isspace():
        return True
    drawn, unknown = (font(32).getmask(text) for text in (character, UNKNOWN))
    return drawn.size != unknown.size or bytes(drawn) != bytes(unknown)


def _font_file() -> Path:
    """DejaVu Sans as it comes with matplotlib, found without importing it; some systems keep its data elsewhere."""
    package = find_spec("matplotlib")
    for folder in (package and package.submodule_search_locations) or []:
        file = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if file.is_file():
            return file
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")

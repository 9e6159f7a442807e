"""What a slide file is, as far as its content says so: which readers show it truly, why none may, what they leave out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """What a file is.

    Attributes:
        name: in words, with its article: "an OME-TIFF".
        readers: names of those that read it truly, in the order in which they are tried.
        fault: why no reader may show it, and what mends that; or "".
        notes: what the file holds beside the slide that is read, one sentence each.
    """

    name: str
    readers: tuple[str, ...]
    fault: str = ""
    notes: tuple[str, ...] = ()


def orientation_note(orientation: int) -> str:
    """Of a file with another Orientation tag (TIFF 6.0, section 8; EXIF) than 1: some readers turn the picture, some do not."""
    return f"its Orientation tag ({orientation}) is not followed: pixels are read as they are stored"


def no_level_note(size: tuple[int, int], dimensions: tuple[int, int]) -> str:
    """Of a picture of `size` among the levels of a slide of `dimensions`, (width, height) both, that it does not fit."""
    return f"a level of {size[0]} × {size[1]} px is no reduction of the slide's {dimensions[0]} × {dimensions[1]} and is left out"


def counted(n: int, what: str, plural: str = "") -> str:
    """`1 focal plane`, `5 focal planes`."""
    return f"{n} {what}" if n == 1 else f"{n} {plural or what + 's'}"

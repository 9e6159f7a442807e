"""Format of a slide file: the readers that show it correctly, or why none does, and the content that is not read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """Format of a file.

    Attributes:
        name: description with its article: "an OME-TIFF".
        readers: names of the readers that read it correctly, in the order in which they are tried.
        fault: why no reader can show it, and how to correct that; or "".
        notes: content of the file that is not read, one sentence each.
    """

    name: str
    readers: tuple[str, ...]
    fault: str = ""
    notes: tuple[str, ...] = ()


def orientation_note(orientation: int) -> str:
    """Return the note for an Orientation tag (TIFF 6.0, section 8; EXIF) other than 1, which readers treat differently."""
    return f"its Orientation tag ({orientation}) is not followed: pixels are read as they are stored"


def no_level_note(size: tuple[int, int], dimensions: tuple[int, int]) -> str:
    """Return the note for an image of `size` that is no level of a slide of `dimensions`, both (width, height)."""
    return f"a level of {size[0]} × {size[1]} px is no reduction of the slide's {dimensions[0]} × {dimensions[1]} and is left out"


def counted(n: int, what: str, plural: str = "") -> str:
    """Return a count with its noun: `1 focal plane`, `5 focal planes`."""
    return f"{n} {what}" if n == 1 else f"{n} {plural or what + 's'}"

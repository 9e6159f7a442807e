"""Format of a TIFF by its tags: the readers that show its slide correctly, and its other content."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tifffile

from wsi_mil.config.readers import IMAGE, JPEG_TIFF, OPENSLIDE, TIFFSLIDE
from wsi_mil.geometry import is_reduction
from wsi_mil.slides.format import Format, counted, no_level_note, orientation_note
from wsi_mil.slides.jpeg_colours import HEAD_BYTES, is_ycbcr
from wsi_mil.slides.ome import Ome, ome_fault, ome_notes, ome_of

JPEG, RGB = 7, 2
UNSIGNED, VOID, FLOATING = 1, 4, 3
TRANSPARENCY = (1, 2)
"""Values of the tags Compression, PhotometricInterpretation, SampleFormat and ExtraSamples."""

ORIENTATION, SOFTWARE, NDPI_VERSION, NDPI_LENS, NDPI_FOCAL_PLANE = 274, 305, 65420, 65421, 65424
XMP, VENTANA = 700, b"<iScan"
"""Tag of the XML with the layout of a Ventana scanner's images, and the root element of that XML."""

HAMAMATSU = "a Hamamatsu slide"
TRESTLE = "MedScan"
"""Prefix of the Software tag of Trestle scanners."""

COLOUR_SAMPLES = {
    "MINISBLACK": 1, "MINISWHITE": 1, "PALETTE": 1, "RGB": 3, "YCBCR": 3, "CIELAB": 3, "ICCLAB": 3, "SEPARATED": 4
}  # fmt: skip
"""Photometric interpretations whose colours some reader gives correctly, with their samples per pixel."""

HINT = "save it as an RGB image of 8 bits per channel"


@dataclass(frozen=True)
class _Pages:
    """Pages of a file: the first, which readers show, those below it (SubIFDs), and all others but masks."""

    first: tifffile.TiffPage
    below: tuple[tifffile.TiffPage, ...]
    others: tuple[tifffile.TiffPage, ...]

    @property
    def size(self) -> tuple[int, int]:
        return _size(self.first)

    @property
    def levels_below(self) -> int:
        return sum(is_reduction(self.size, _size(page)) for page in self.below)

    @property
    def levels_beside(self) -> int:
        """Number of pages that OpenSlide takes for levels of a plain TIFF."""
        return sum(page.is_tiled and page.is_reduced and is_reduction(self.size, _size(page)) for page in self.others)


def tiff_format(tif: tifffile.TiffFile) -> Format:
    """Return the format of an open TIFF. Raises whatever tifffile raises on a damaged file."""
    vendor = _vendor(tif)
    if vendor:  # only OpenSlide places overlapping or scattered images; an NDPI of one focal plane has neither
        notes = tuple(_vendor_notes(tif))
        is_plain = vendor == HAMAMATSU and not notes
        return Format(vendor, (OPENSLIDE, TIFFSLIDE) if is_plain else (OPENSLIDE,), notes=notes)
    pages = _pages(tif)
    text = tif.ome_metadata or ""
    ome = ome_of(text) if text else None
    name = "an Aperio slide" if tif.is_svs else "an OME-TIFF" if text else "a TIFF"
    fault = ome_fault(ome, pages.first.samplesperpixel) if ome else ""
    fault = fault or _sample_fault(pages.first) or _other_fault(tif, pages, ome)
    if fault:
        return Format(name, (), fault)
    return Format(name, _readers(tif, pages), notes=tuple(_notes(tif, pages, ome)))


def has_levels_below(tif: tifffile.TiffFile) -> bool:
    """Return whether more levels are in SubIFDs, below the first page, than beside it, where OpenSlide looks for them."""
    pages = _pages(tif)
    return pages.levels_below > pages.levels_beside


def is_mislabelled(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Return whether a page is declared as RGB although its JPEG data are YCbCr by their own markers."""
    if int(page.compression) != JPEG or int(page.photometric) != RGB:
        return False
    stream = next(((at, size) for at, size in zip(page.dataoffsets, page.databytecounts, strict=False) if size), None)
    if stream is None:
        return False
    offset, n_bytes = stream
    tif.filehandle.seek(offset)
    return is_ycbcr(tif.filehandle.read(min(n_bytes, HEAD_BYTES))) is True


def _vendor(tif: tifffile.TiffFile) -> str:
    """Vendor whose image layout OpenSlide supports; "" for any other."""
    software = tif.pages.first.tags.valueof(SOFTWARE, "")
    kinds = {
        HAMAMATSU: NDPI_VERSION in tif.pages.first.tags,
        "a Leica slide": tif.is_scn,
        "a Ventana slide": tif.is_bif or any(VENTANA in _xmp(page) for page in tif.pages),
        "a Philips slide": tif.is_philips,
        "a Trestle slide": isinstance(software, str) and software.startswith(TRESTLE),
    }
    return next((name for name, is_it in kinds.items() if is_it), "")


def _pages(tif: tifffile.TiffFile) -> _Pages:
    pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
    below = [page for page in pages[0].pages or () if isinstance(page, tifffile.TiffPage)]
    return _Pages(pages[0], tuple(below), tuple(page for page in pages[1:] if not page.is_mask))


def _readers(tif: tifffile.TiffFile, pages: _Pages) -> tuple[str, ...]:
    if is_mislabelled(tif, pages.first):
        return (OPENSLIDE,)  # OpenSlideReader corrects the colours
    if _orientation(pages.first) != 1:
        return (TIFFSLIDE,)  # OpenSlide rotates each block by itself, Pillow the whole image
    if has_levels_below(tif):
        return (JPEG_TIFF, TIFFSLIDE, OPENSLIDE, IMAGE)  # the last two do not read SubIFDs
    return (JPEG_TIFF, OPENSLIDE, TIFFSLIDE, IMAGE) if pages.first.is_tiled else (TIFFSLIDE, IMAGE)


def _sample_fault(page: tifffile.TiffPage) -> str:
    """Why the pixels of a page are not 8-bit colours; "" if they are."""
    bits = int(page.bitspersample)
    kind = int(page.sampleformat)
    if bits > 8 or kind not in (UNSIGNED, VOID):
        how = " of floating point" if kind == FLOATING else " with a sign" if kind not in (UNSIGNED, VOID) else ""
        return f"must have 8 bits per channel, but has {bits}{how}; {HINT}"
    name = str(tifffile.PHOTOMETRIC(page.photometric).name)
    if name not in COLOUR_SAMPLES:
        return f"its photometric interpretation {name} is not supported; {HINT}"
    expected = COLOUR_SAMPLES[name]
    n_channels = page.samplesperpixel
    extra = page.extrasamples
    is_transparent = n_channels == expected + 1 and len(extra) == 1 and int(extra[0]) in TRANSPARENCY
    if n_channels != expected and not is_transparent:
        return f"has {n_channels} channels, of which {expected} are declared as colours ({name}): fluorescence?; {HINT}"
    return ""


def _other_fault(tif: tifffile.TiffFile, pages: _Pages, ome: Ome | None) -> str:
    """Why the first page is not the slide: another page is larger, or holds another channel."""
    rivals = [page for page in (*pages.below, *pages.others) if page.is_tiled or not (tif.is_svs or tif.is_qpi)]
    width, height = largest = max(
        map(_size, rivals), key=math.prod, default=(0, 0)
    )  # a scanner's label and macro are stored in strips
    if math.prod(largest) > math.prod(pages.size):
        first = f"{pages.size[0]} × {pages.size[1]} px"
        return (
            f"its first image ({first}) is not its largest ({width} × {height} px): a label or macro?;"
            " save the slide as a file of its own"
        )
    n = int((tif.imagej_metadata or {}).get("channels", 1))
    if n == 1 and pages.first.samplesperpixel == 1 and ome is None and not tif.is_imagej:
        n += len(_same_size(pages))
    if n > 1 and pages.first.samplesperpixel == 1:
        return f"holds {n} grey images of the same size: channels of one image?; readers show the first only, so {HINT}"
    return ""


def _notes(tif: tifffile.TiffFile, pages: _Pages, ome: Ome | None) -> Iterator[str]:
    """Notes on the content of the file that is not read."""
    if ome is not None:
        yield from ome_notes(ome)
    elif tif.is_imagej:
        yield from _imagej_notes(tif.imagej_metadata or {})
    else:
        same = len(_same_size(pages))
        if same:
            yield f"{counted(same, 'further image')} of the same size in the file not read"
        further = 0 if tif.is_svs or tif.is_qpi else len(_scattered(pages))  # theirs are label, macro and thumbnail
        if further:
            yield f"{counted(further, 'further image')} of another size in the file not read"
    for page in pages.others:
        if page.is_tiled and page.is_reduced and not is_reduction(pages.size, _size(page)):
            yield no_level_note(_size(page), pages.size)
    if _orientation(pages.first) != 1:
        yield orientation_note(_orientation(pages.first))


def _imagej_notes(metadata: Mapping[str, Any]) -> Iterator[str]:
    counts = {what: int(metadata.get(key, 1)) for key, what in (("slices", "focal plane"), ("frames", "time point"))}
    if math.prod(counts.values()) == 1:
        counts = {"image": int(metadata.get("images", 1)) // int(metadata.get("channels", 1))}
    for what, n in counts.items():
        if n > 1:
            yield f"{counted(n - 1, f'further {what}')} in the file not read"


def _vendor_notes(tif: tifffile.TiffFile) -> Iterator[str]:
    planes: set[object] = set()
    if NDPI_VERSION in tif.pages.first.tags:
        pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
        scanned = [page for page in pages if page.tags.valueof(NDPI_LENS, 1) > 0]  # macro and map have a lens below 0
        planes = {page.tags.valueof(NDPI_FOCAL_PLANE, 0) for page in scanned}
    elif tif.is_scn:
        planes = {0, *map(int, re.findall(r'<dimension\b[^>]*\bz="(\d+)"', tif.scn_metadata or ""))}
    if len(planes) > 1:
        yield f"{counted(len(planes) - 1, 'further focal plane')} in the file not read"


def _same_size(pages: _Pages) -> Sequence[tifffile.TiffPage]:
    return [page for page in pages.others if _size(page) == pages.size]


def _scattered(pages: _Pages) -> Sequence[tifffile.TiffPage]:
    """Pages that are neither of the first one's size nor a reduction of it."""
    others = [page for page in pages.others if _size(page) != pages.size and not page.is_reduced]
    return [page for page in others if not is_reduction(pages.size, _size(page))]


def _xmp(page: tifffile.TiffPage | tifffile.TiffFrame) -> bytes:
    value = page.tags.valueof(XMP, b"") if isinstance(page, tifffile.TiffPage) else b""
    return value.encode() if isinstance(value, str) else bytes(value)


def _orientation(page: tifffile.TiffPage) -> int:
    return int(page.tags.valueof(ORIENTATION, 1))


def _size(page: tifffile.TiffPage) -> tuple[int, int]:
    """(width, height)."""
    return page.imagewidth, page.imagelength

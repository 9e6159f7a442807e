"""Keep slides open while they are viewed, within limits of open files and memory."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_mil.config.readers import IMAGE
from wsi_mil.records import SlideRow
from wsi_mil.slides import Slide, open_slide

MAX_OPEN_SLIDES = 6
MAX_RESIDENT_PX = 100_000_000
"""Limit for plain images (PNG, JPEG, …), which are in memory while open: 300 MB, and 400 more while one is being opened.
Larger ones are shown as thumbnails."""

PLAIN_IMAGE_READER = IMAGE
"""Name of the reader of plain images."""

FileStamp = tuple[int, ...]


class OpenSlides:
    """Cache of open slides, which closes the least recently used. Thread-safe."""

    def __init__(self, most: int = MAX_OPEN_SLIDES, most_px: int = MAX_RESIDENT_PX):
        self._most, self._most_px = most, most_px
        self._lock = threading.Lock()
        self._slides: OrderedDict[tuple[str, str, FileStamp], Slide] = OrderedDict()
        self._users: dict[int, int] = {}
        self._opening: dict[str, threading.Lock] = {}

    @contextmanager
    def borrowed(self, row: SlideRow, reader: str) -> Iterator[Slide]:
        """Lend an open slide with a nominal resolution of 1 µm per level-0 pixel, so that `mpp` equals the downsample.

        Raises:
            SlideError: the slide cannot be opened.
            OSError: the system cannot open the file.
        """
        slide = self._take(row, reader)
        try:
            yield slide
        finally:
            self._give_back(slide)

    def close(self) -> None:
        """Close all slides that are not in use."""
        with self._lock:
            self._close_unused(0, 0)

    def _take(self, row: SlideRow, reader: str) -> Slide:
        key = (str(row.path), reader, file_stamp(row.path))
        with self._lock:  # plain images one after the other: opening one takes twice its memory
            opening = self._opening.setdefault(PLAIN_IMAGE_READER if reader == PLAIN_IMAGE_READER else key[0], threading.Lock())
        with opening:
            with self._lock:
                slide = self._slides.get(key)
                if slide is not None:
                    return self._used(key, slide)
                if reader == PLAIN_IMAGE_READER:
                    self._close_unused(self._most, self._most_px // 4)
            slide = open_slide(row.path, reader, mpp=1.0, in_place=True)
            with self._lock:
                self._slides[key] = slide
                self._used(key, slide)
                self._close_unused(self._most, self._most_px)
                return slide

    def _used(self, key: tuple[str, str, FileStamp], slide: Slide) -> Slide:
        self._slides.move_to_end(key)
        self._users[id(slide)] = self._users.get(id(slide), 0) + 1
        return slide

    def _give_back(self, slide: Slide) -> None:
        with self._lock:
            self._users[id(slide)] -= 1
            self._close_unused(self._most, self._most_px)

    def _close_unused(self, most: int, most_px: int) -> None:
        for key, slide in list(self._slides.items()):
            too_many = len(self._slides) > most
            held_px = sum(other.resident_pixels for other in self._slides.values())
            if (too_many or (slide.resident_pixels and held_px > most_px)) and not self._users.get(id(slide)):
                del self._slides[key]
                self._users.pop(id(slide), None)
                slide.close()


def file_stamp(path: Path | str) -> FileStamp:
    """Return modification time and size of a file, which reveal a change; () if it is missing or on a server."""
    if isinstance(path, str):
        return ()
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size

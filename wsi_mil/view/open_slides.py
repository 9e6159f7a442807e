"""Slides that stay open while they are looked at, within a bound of files and of memory."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_mil.config.readers import IMAGE
from wsi_mil.records import SlideRow
from wsi_mil.slides import Slide, open_slide

OPEN_AT_ONCE = 6
MAX_HELD_PX = 100_000_000
"""Of plain images (PNG, JPEG, …), which stay in memory whole while open: 300 MB, and 400 more while one is opened. Larger ones
are shown by their thumbnail."""

PLAIN = IMAGE
"""The reader of plain images."""

Stamp = tuple[int, ...]


class OpenSlides:
    """Slides that stay open, the longest unused closed first. Safe in several threads."""

    def __init__(self, most: int = OPEN_AT_ONCE, most_px: int = MAX_HELD_PX):
        self._most, self._most_px = most, most_px
        self._lock = threading.Lock()
        self._slides: OrderedDict[tuple[str, str, Stamp], Slide] = OrderedDict()
        self._users: dict[int, int] = {}
        self._opening: dict[str, threading.Lock] = {}

    @contextmanager
    def borrowed(self, row: SlideRow, reader: str) -> Iterator[Slide]:
        """The slide, with a resolution of 1 µm per level-0 pixel, so that `mpp` of what is read is its downsample.

        Raises:
            SlideError: it cannot be opened.
            OSError: the machine cannot open it.
        """
        slide = self._take(row, reader)
        try:
            yield slide
        finally:
            self._give_back(slide)

    def close(self) -> None:
        """Close what nobody uses."""
        with self._lock:
            self._close_unused(0, 0)

    def _take(self, row: SlideRow, reader: str) -> Slide:
        key = (str(row.path), reader, stamp(row.path))
        with self._lock:  # plain images one after the other: opening takes twice what they hold
            opening = self._opening.setdefault(PLAIN if reader == PLAIN else key[0], threading.Lock())
        with opening:
            with self._lock:
                slide = self._slides.get(key)
                if slide is not None:
                    return self._used(key, slide)
                if reader == PLAIN:
                    self._close_unused(self._most, self._most_px // 4)
            slide = open_slide(row.path, reader, mpp=1.0, in_place=True)
            with self._lock:
                self._slides[key] = slide
                self._used(key, slide)
                self._close_unused(self._most, self._most_px)
                return slide

    def _used(self, key: tuple[str, str, Stamp], slide: Slide) -> Slide:
        self._slides.move_to_end(key)
        self._users[id(slide)] = self._users.get(id(slide), 0) + 1
        return slide

    def _give_back(self, slide: Slide) -> None:
        with self._lock:
            self._users[id(slide)] -= 1
            self._close_unused(self._most, self._most_px)

    def _close_unused(self, most: int, most_px: int) -> None:
        for key, slide in list(self._slides.items()):
            are_many, resident_pixels = len(self._slides) > most, sum(other.resident_pixels for other in self._slides.values())
            if (are_many or (slide.resident_pixels and resident_pixels > most_px)) and not self._users.get(id(slide)):
                del self._slides[key]
                self._users.pop(id(slide), None)
                slide.close()


def stamp(path: Path | str) -> Stamp:
    """Time and size of a file, which change with it; nothing where it is gone, or on a server."""
    if isinstance(path, str):
        return ()
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_mtime_ns, about.st_size
